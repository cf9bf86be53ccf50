//! The index of a file that `torch.save` wrote: names, shapes and where the values lie. Nothing of it is executed: the few
//! constructors of a state dictionary are known by name, everything else is an opaque object.

use std::collections::BTreeMap;
use std::io::Cursor;

use tch::Kind;

use crate::checkpoint::file::TensorInfo;

/// What is wrong with a file.
type Result<T> = std::result::Result<T, String>;

/// First number of torch's format before 1.6.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Keys under which trainers keep the state dictionary.
const NESTED: [&str; 4] = ["state_dict", "model_state_dict", "model", "module"];
/// Values that any pickle may hold, and how much memory they may take for each byte of the file.
const LEAST_VALUES: usize = 1 << 15;
const MOST_BYTES: usize = 1;

/// Tensors of a file, and the checksums to hold its content against.
pub(crate) struct Pickled {
    pub index: BTreeMap<String, TensorInfo>,
    pub sums: Vec<Sum>,
}

/// A stored part of an archive.
pub(crate) struct Sum {
    pub name: String,
    pub start: usize,
    pub length: usize,
    pub crc32: u32,
}

/// A value on the machine's stack. Containers, and what else is large, are numbers of the machine's own lists: a value that is
/// referred to again is not copied, and nothing is nested in memory.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Mark,
    Opaque,
    Int(i64),
    Text(&'a str),
    /// Number of a module and name.
    Global(usize),
    Tuple(usize),
    List(usize),
    Dict(usize),
    Storage {
        key: &'a str,
        kind: Kind,
    },
    Tensor(usize),
    /// An object of a class.
    Object(usize),
}

/// A tensor as it was saved.
#[derive(Debug, Clone)]
struct Stored<'a> {
    key: &'a str,
    kind: Kind,
    offset: usize,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

/// Where each storage lies: first byte and bytes.
type Storages<'a> = BTreeMap<&'a str, (usize, usize)>;

/// Reads the index of a file's bytes.
///
/// # Errors
/// A truncated or damaged file, or one that holds something else than a dictionary of tensors.
pub(crate) fn index(data: &[u8]) -> Result<Pickled> {
    if data.starts_with(b"PK") {
        return zipped(data);
    }
    let mut machine = Machine::new(data, data.len());
    let (state, storages) = legacy(data, &mut machine)?;
    Ok(Pickled { index: machine.tensors_of(state, &storages)?, sums: Vec::new() })
}

/// Where a tensor's values lie, given those of its storage.
fn entry(stored: &Stored, start: usize, length: usize) -> Result<TensorInfo> {
    let Stored { kind, offset, shape, strides, .. } = stored;
    if shape.len() != strides.len() || shape.iter().chain(strides).any(|&n| n < 0) {
        return Err(format!("shape {shape:?} with strides {strides:?}"));
    }
    let size = kind.elt_size_in_bytes();
    let (mut step, mut last, mut is_contiguous) = (1i64, 0i64, true);
    for (&count, &stride) in shape.iter().zip(strides).rev() {
        is_contiguous &= count <= 1 || stride == step;
        let reach = (count - 1).max(0).checked_mul(stride).ok_or("its shape is too large")?;
        last = last.checked_add(reach).ok_or("its shape is too large")?;
        step = step.checked_mul(count.max(1)).ok_or("its shape is too large")?;
    }
    let values = if shape.contains(&0) { 0 } else { usize::try_from(last).map_err(|e| e.to_string())? + 1 };
    let begin = offset.checked_mul(size).ok_or("its place is too large")?;
    let bytes = values.checked_mul(size).ok_or("its shape is too large")?;
    if begin.checked_add(bytes).is_none_or(|end| end > length) {
        return Err(format!("{bytes} bytes expected, its storage has {}", length.saturating_sub(begin)));
    }
    let strides = (!is_contiguous && values > 0).then(|| strides.clone());
    Ok(TensorInfo { kind: *kind, shape: shape.clone(), strides, start: start + begin, length: bytes })
}

/// torch 1.6 and later: a zip archive with `data.pkl` and a file for every storage, uncompressed.
fn zipped(data: &[u8]) -> Result<Pickled> {
    let mut archive =
        zip::ZipArchive::new(Cursor::new(data)).map_err(|e| format!("it is truncated or no archive ({e})"))?;
    if archive.file_names().any(|name| name.ends_with("/constants.pkl")) {
        let what =
            "it is a TorchScript archive (torch.jit.save), which is a program; save the model with save_pretrained";
        return Err(what.into());
    }
    if !archive.file_names().any(|name| name == "data.pkl" || name.ends_with("/data.pkl")) {
        let names = archive.file_names().take(3).collect::<Vec<_>>().join(", ");
        return Err(format!("it is a zip archive without data.pkl, not one of torch.save (it has {names}); unpack it"));
    }
    let mut sums = Vec::new();
    for number in 0..archive.len() {
        let file = archive.by_index(number).map_err(|e| e.to_string())?;
        let (start, length) = (file.data_start() as usize, file.size() as usize);
        if file.compression() != zip::CompressionMethod::Stored {
            return Err(format!("{} is compressed", file.name()));
        }
        let is_inside = data.get(start..).is_some_and(|rest| rest.len() >= length);
        if !is_inside {
            return Err("it is truncated".into());
        }
        sums.push(Sum { name: file.name().into(), start, length, crc32: file.crc32() });
    }
    let (mut pickle, mut storages) = (None, Storages::new());
    for sum in &sums {
        if sum.name == "data.pkl" || sum.name.ends_with("/data.pkl") {
            pickle = Some(&data[sum.start..sum.start + sum.length]);
        } else if let Some((_, key)) = sum.name.split_once("/data/") {
            storages.insert(key, (sum.start, sum.length));
        }
    }
    let mut machine = Machine::new(pickle.ok_or("it has no data.pkl")?, data.len());
    let state = machine.run()?;
    let index = machine.tensors_of(state, &storages)?;
    // torch.serialization.set_crc32_options(False) leaves every checksum out.
    if sums.iter().all(|sum| sum.crc32 == 0) {
        sums.clear();
    }
    Ok(Pickled { index, sums })
}

/// Before torch 1.6: pickles of a magic number, a version, facts about the system, the state and the storages' keys, then
/// for each storage its length and its values.
fn legacy<'a>(data: &'a [u8], machine: &mut Machine<'a>) -> Result<(Value<'a>, Storages<'a>)> {
    machine.run()?;
    if !data.windows(LEGACY_MAGIC.len()).take(16).any(|window| window == LEGACY_MAGIC) {
        return Err("it is a pickle, but no checkpoint of torch".into());
    }
    machine.run()?;
    machine.run()?;
    let state = machine.run()?;
    let Value::List(keys) = machine.run()? else { return Err("it has no list of storages".into()) };
    let mut storages = Storages::new();
    for key in std::mem::take(&mut machine.containers[keys]) {
        let Value::Text(key) = key else { return Err("a storage has no name".into()) };
        let count = u64::from_le_bytes(machine.take::<8>()?) as usize;
        let size = machine.sizes.get(key).copied().ok_or("a storage that no tensor uses")?;
        let length = count.checked_mul(size).ok_or("a storage is too large")?;
        storages.insert(key, (machine.place, length));
        machine.skip(length)?;
    }
    Ok((state, storages))
}

/// The stack machine of a pickle.
struct Machine<'a> {
    data: &'a [u8],
    place: usize,
    stack: Vec<Value<'a>>,
    memo: BTreeMap<u32, Value<'a>>,
    /// Items of tuples and lists; keys and values of dictionaries in turn.
    containers: Vec<Vec<Value<'a>>>,
    tensors: Vec<Stored<'a>>,
    /// Modules and names.
    globals: Vec<(&'a str, &'a str)>,
    /// Bytes of one value of each storage seen.
    sizes: BTreeMap<&'a str, usize>,
    /// Values that may still be made.
    left: usize,
}

impl<'a> Machine<'a> {
    /// For a pickle within a file of so many bytes.
    fn new(data: &'a [u8], file: usize) -> Self {
        let left = file.saturating_mul(MOST_BYTES) / size_of::<Value>() + LEAST_VALUES;
        let (stack, memo, containers, tensors, globals, sizes) = Default::default();
        Machine { data, place: 0, stack, memo, containers, tensors, globals, sizes, left }
    }

    /// Runs up to the end of one pickle and gives its value.
    fn run(&mut self) -> Result<Value<'a>> {
        self.stack.clear();
        self.memo.clear();
        loop {
            let [code] = self.take::<1>()?;
            if code == b'.' {
                return self.pop();
            }
            self.step(code)?;
        }
    }

    /// Entries of the tensors of a state dictionary, which may be nested one level in a trainer's.
    fn tensors_of(&self, state: Value<'a>, storages: &Storages) -> Result<BTreeMap<String, TensorInfo>> {
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

    fn step(&mut self, code: u8) -> Result<()> {
        match code {
            0x80 => drop(self.take::<1>()?),
            0x95 => drop(self.take::<8>()?),
            b'(' => self.push(Value::Mark)?,
            b'N' | 0x88 | 0x89 => self.push(Value::Opaque)?,
            b'G' => {
                self.take::<8>()?;
                self.push(Value::Opaque)?;
            }
            b'0' => drop(self.pop()?),
            b'1' => drop(self.since_mark()?),
            b'2' => {
                let top = self.top()?;
                self.push(top)?;
            }
            b'K' | b'M' | b'J' | 0x8a | 0x8b => self.integer(code)?,
            b'X' | 0x8c | 0x8d | b'U' | b'T' | b'C' | b'B' | 0x8e => self.string(code)?,
            b'c' | 0x93 => self.global(code)?,
            b'q' | b'r' | 0x94 => self.remember(code)?,
            b'h' | b'j' => self.recall(code)?,
            b')' | b']' | b'}' | 0x8f | 0x85..=0x87 | b't' | b'l' | b'd' | 0x91 => self.container(code)?,
            b'a' | b's' => {
                let from =
                    self.stack.len().checked_sub(if code == b'a' { 1 } else { 2 }).ok_or("its stack is empty")?;
                let items = self.stack.split_off(from);
                self.extend(&items)?;
            }
            b'e' | b'u' | 0x90 => {
                let items = self.since_mark()?;
                self.extend(&items)?;
            }
            // State of an object, such as a dictionary's `_metadata`.
            b'b' => drop(self.pop()?),
            b'Q' => {
                let identity = self.pop()?;
                let storage = self.storage(identity)?;
                self.push(storage)?;
            }
            // A call, and a new object of a class with its arguments.
            b'R' | 0x81 | 0x92 => {
                if code == 0x92 {
                    self.pop()?;
                }
                let (arguments, function) = (self.pop()?, self.pop()?);
                let value = if code == b'R' { self.call(function, arguments, 0)? } else { object(function) };
                self.push(value)?;
            }
            other => return Err(format!("it holds what a checkpoint does not (opcode {other:#x})")),
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let chunk = self.data.get(self.place..).and_then(|rest| rest.first_chunk::<N>());
        self.place += N;
        chunk.copied().ok_or_else(|| "it is truncated".into())
    }

    fn skip(&mut self, length: usize) -> Result<&'a [u8]> {
        let chunk = self.data.get(self.place..).and_then(|rest| rest.get(..length)).ok_or("it is truncated")?;
        self.place += length;
        Ok(chunk)
    }

    fn push(&mut self, value: Value<'a>) -> Result<()> {
        self.stack.push(value);
        self.spend(1)
    }

    fn spend(&mut self, values: usize) -> Result<()> {
        self.left =
            self.left.checked_sub(values).ok_or("it makes far more values than a checkpoint of its size holds")?;
        Ok(())
    }

    /// A length of one to eight bytes before what is that long.
    fn length(&mut self, bytes: usize) -> Result<usize> {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(self.skip(bytes)?);
        usize::try_from(u64::from_le_bytes(number)).map_err(|e| e.to_string())
    }

    fn integer(&mut self, code: u8) -> Result<()> {
        let value = match code {
            b'K' => Value::Int(self.length(1)? as i64),
            b'M' => Value::Int(self.length(2)? as i64),
            b'J' => Value::Int(i32::from_le_bytes(self.take::<4>()?).into()),
            other => {
                let length = self.length(if other == 0x8a { 1 } else { 4 })?;
                long(self.skip(length)?)
            }
        };
        self.push(value)
    }

    fn string(&mut self, code: u8) -> Result<()> {
        let length = self.length(match code {
            0x8c | b'U' | b'C' => 1,
            0x8d | 0x8e => 8,
            _ => 4,
        })?;
        let bytes = self.skip(length)?;
        let is_text = !matches!(code, b'C' | b'B' | 0x8e);
        self.push(match std::str::from_utf8(bytes) {
            Ok(text) if is_text => Value::Text(text),
            Err(e) if matches!(code, b'X' | 0x8c | 0x8d) => return Err(e.to_string()),
            _ => Value::Opaque,
        })
    }

    fn line(&mut self) -> Result<&'a str> {
        let rest = self.data.get(self.place..).unwrap_or_default();
        let length = rest.iter().take(1024).position(|&byte| byte == b'\n').ok_or("a name has no end")?;
        self.place += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|e| e.to_string())
    }

    fn global(&mut self, code: u8) -> Result<()> {
        let named = if code == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let (Value::Text(name), Value::Text(module)) = (name, module) else {
                return Err("a name is no text".into());
            };
            (module, name)
        };
        self.globals.push(named);
        self.push(Value::Global(self.globals.len() - 1))
    }

    fn top(&self) -> Result<Value<'a>> {
        self.stack.last().copied().ok_or_else(|| "its stack is empty".into())
    }

    fn pop(&mut self) -> Result<Value<'a>> {
        self.stack.pop().ok_or_else(|| "its stack is empty".into())
    }

    fn since_mark(&mut self) -> Result<Vec<Value<'a>>> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark)).ok_or("a mark is missing")?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn remember(&mut self, code: u8) -> Result<()> {
        let key = match code {
            b'q' => self.length(1)? as u32,
            b'r' => self.length(4)? as u32,
            _ => self.memo.len() as u32,
        };
        let top = self.top()?;
        self.memo.insert(key, top);
        self.spend(1)
    }

    fn recall(&mut self, code: u8) -> Result<()> {
        let key = self.length(if code == b'h' { 1 } else { 4 })? as u32;
        let value = *self.memo.get(&key).ok_or("it refers to what is not there")?;
        self.push(value)
    }

    fn container(&mut self, code: u8) -> Result<()> {
        let items = match code {
            0x85..=0x87 => {
                let first = self.stack.len().checked_sub(usize::from(code - 0x84)).ok_or("its stack is empty")?;
                self.stack.split_off(first)
            }
            b't' | b'l' | b'd' | 0x91 => self.since_mark()?,
            _ => Vec::new(),
        };
        self.containers.push(items);
        let number = self.containers.len() - 1;
        self.push(match code {
            b']' | b'l' => Value::List(number),
            b'}' | b'd' => Value::Dict(number),
            0x8f | 0x91 => Value::List(number),
            _ => Value::Tuple(number),
        })
    }

    /// Adds to the list or dictionary at the top; what an object takes is left out.
    fn extend(&mut self, items: &[Value<'a>]) -> Result<()> {
        if let Value::List(number) | Value::Dict(number) = self.top()? {
            self.spend(items.len())?;
            self.containers[number].extend_from_slice(items);
        }
        Ok(())
    }

    fn items(&self, value: Value<'a>) -> &[Value<'a>] {
        match value {
            Value::Tuple(number) | Value::List(number) => &self.containers[number],
            _ => &[],
        }
    }

    /// `("storage", type, key, device, length, ...)`.
    fn storage(&mut self, identity: Value<'a>) -> Result<Value<'a>> {
        let &[_, Value::Global(class), Value::Text(key), ..] = self.items(identity) else {
            return Err("a storage has no name".into());
        };
        let kind = match self.globals[class] {
            ("torch", "FloatStorage") => Kind::Float,
            ("torch", "HalfStorage") => Kind::Half,
            ("torch", "BFloat16Storage") => Kind::BFloat16,
            ("torch", "DoubleStorage") => Kind::Double,
            ("torch", "LongStorage") => Kind::Int64,
            ("torch", "IntStorage") => Kind::Int,
            ("torch", "ShortStorage") => Kind::Int16,
            ("torch", "CharStorage") => Kind::Int8,
            ("torch", "ByteStorage") => Kind::Uint8,
            ("torch", "BoolStorage") => Kind::Bool,
            (module, name) => return Err(format!("values of the unknown type {module} {name}")),
        };
        self.sizes.insert(key, kind.elt_size_in_bytes());
        Ok(Value::Storage { key, kind })
    }

    fn call(&mut self, function: Value<'a>, arguments: Value<'a>, depth: usize) -> Result<Value<'a>> {
        let Value::Global(class) = function else { return Ok(Value::Opaque) };
        let items = self.items(arguments);
        match self.globals[class] {
            ("collections", "OrderedDict") => {
                self.containers.push(Vec::new());
                Ok(Value::Dict(self.containers.len() - 1))
            }
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") if !items.is_empty() => {
                Ok(items[0])
            }
            // A subclass of Tensor: the function and the arguments that build the tensor itself.
            ("torch._tensor", "_rebuild_from_type_v2" | "_rebuild_from_type") if depth == 0 => match *items {
                [function, _, arguments, ..] => self.call(function, arguments, 1),
                _ => Ok(Value::Opaque),
            },
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => {
                let &[Value::Storage { key, kind }, Value::Int(offset), shape, strides, ..] = items else {
                    return Err("a tensor is not built from a storage".into());
                };
                let offset = usize::try_from(offset).map_err(|e| e.to_string())?;
                let (shape, strides) = (self.numbers(shape)?, self.numbers(strides)?);
                self.tensors.push(Stored { key, kind, offset, shape, strides });
                Ok(Value::Tensor(self.tensors.len() - 1))
            }
            _ => Ok(object(function)),
        }
    }

    fn numbers(&self, value: Value<'a>) -> Result<Vec<i64>> {
        let items = self.items(value);
        // torch has no tensor of more dimensions.
        if items.len() > 64 {
            return Err(format!("a tensor of {} dimensions", items.len()));
        }
        let number =
            |value: &Value| if let Value::Int(number) = value { Ok(*number) } else { Err("a size is no number") };
        Ok(items.iter().map(number).collect::<std::result::Result<Vec<i64>, _>>()?)
    }
}

fn object(class: Value) -> Value {
    if let Value::Global(number) = class { Value::Object(number) } else { Value::Opaque }
}

/// A number of any length; one of more than 64 bits (the magic number) is not looked at.
fn long(bytes: &[u8]) -> Value<'static> {
    if bytes.len() > 8 {
        return Value::Opaque;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut value = [if negative { 0xff } else { 0 }; 8];
    value[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(value))
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

    #[test]
    fn strides_are_held_against_the_storage() {
        let stored = |shape: &[i64], strides: &[i64], offset| Stored {
            key: "0",
            kind: Kind::Float,
            offset,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        };
        let transposed = entry(&stored(&[3, 2], &[1, 3], 0), 100, 24).unwrap();
        assert_eq!((transposed.strides, transposed.start, transposed.length), (Some(vec![1, 3]), 100, 24));
        let plain = entry(&stored(&[3, 2], &[2, 1], 1), 100, 28).unwrap();
        assert_eq!((plain.strides, plain.start, plain.length), (None, 104, 24));
        assert!(entry(&stored(&[3, 2], &[1, 3], 1), 100, 24).is_err());
        assert!(entry(&stored(&[3, 2], &[1, -3], 0), 100, 24).is_err());
        assert!(entry(&stored(&[i64::MAX, i64::MAX], &[i64::MAX, 1], 0), 100, 24).is_err());
        assert_eq!(entry(&stored(&[0, 2], &[2, 1], 0), 100, 24).unwrap().length, 0);
    }
}
