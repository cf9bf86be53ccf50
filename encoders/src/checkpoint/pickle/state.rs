//! The state dictionary that a pickle's value is, or holds.

use std::collections::BTreeMap;

use crate::checkpoint::pickle::machine::Machine;
use crate::checkpoint::pickle::stored::{Storages, entry};
use crate::checkpoint::pickle::value::{Result, Value};
use crate::checkpoint::tensor_info::TensorInfo;

/// Keys under which trainers keep the state dictionary.
const NESTED: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];

impl<'a> Machine<'a> {
    /// Entries of the tensors of a state dictionary, which may be nested one level in a trainer's.
    pub fn tensors_of(&self, state: Value<'a>, storages: &Storages) -> Result<BTreeMap<String, TensorInfo>> {
        let items = self.dictionary(state)?;
        let has_tensors = |items: &[Value<'a>]| items.iter().any(|item| matches!(item, Value::Tensor(_)));
        let nested = |key: &&str| {
            let pairs = items.chunks_exact(2);
            let at = pairs.filter_map(|pair| match pair {
                [Value::Text(name), Value::Dict(dict)] if name == key => Some(&self.containers[*dict]),
                _ => None,
            });
            at.rev().find(|items| has_tensors(items))
        };
        let items =
            if has_tensors(items) { items } else { NESTED.iter().find_map(nested).map_or(items, Vec::as_slice) };
        if !has_tensors(items) {
            return Err(
                "it holds no tensors by name: expected a state dictionary, as model.state_dict() gives it".into()
            );
        }
        let mut index = BTreeMap::new();
        for pair in items.chunks_exact(2) {
            if let [Value::Text(name), Value::Tensor(number)] = pair {
                let stored = &self.tensors[*number];
                let (start, length) =
                    *storages.get(stored.key).ok_or_else(|| format!("the values of {name} are not in it"))?;
                let entry = entry(stored, start, length).map_err(|e| format!("{name}: {e}"))?;
                index.insert((*name).to_string(), entry);
            }
        }
        Ok(index)
    }

    fn dictionary(&self, state: Value<'a>) -> Result<&[Value<'a>]> {
        let advice = "save its state_dict(), or the model with save_pretrained";
        match state {
            Value::Dict(number) => Ok(&self.containers[number]),
            Value::Object(class) => {
                let (module, name) = self.globals[class];
                Err(format!(
                    "it holds a whole object of class {module}.{name}, which only its own code can load; {advice}"
                ))
            }
            Value::Tensor(_) => Err(format!("it holds a single tensor, expected a dictionary of tensors; {advice}")),
            _ => Err(format!("it holds no dictionary of tensors; {advice}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(pickle: &[u8]) -> String {
        let mut machine = Machine::new(pickle, pickle.len());
        let state = machine.run();
        state.and_then(|state| machine.tensors_of(state, &Storages::new())).err().unwrap()
    }

    /// Tuples of tuples, each referred to twice: 2^n values where they are copied, or gone through.
    #[test]
    fn a_memo_bomb_is_an_error() {
        let mut bomb = vec![0x80, 2, b')'];
        for number in 0..200u8 {
            bomb.extend([b'q', number, b'h', number, 0x86]);
        }
        bomb.push(b'.');
        assert!(message(&bomb).contains("no dictionary"));
        // A list that grows by what it is told again and again, and a stack that does.
        for code in [&[b'(', b'N', b'N', b'N', b'e'][..], &[b'N'; 5]] {
            let mut growing = vec![0x80, 2, b']'];
            (0..200_000).for_each(|_| growing.extend_from_slice(code));
            assert!(message(&growing).contains("far more values"), "{}", message(&growing));
        }
    }

    #[test]
    fn a_container_within_containers_without_end_does_not_exhaust_the_stack() {
        let mut nested = vec![0x80, 2, b')'];
        nested.extend([0x85; 20_000]);
        nested.push(b'.');
        assert!(message(&nested).contains("no dictionary"));
    }
}
