//! Switches of docs/divergences.md that are an option: each can be flipped alone against a base.

use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::plan::grid;
use crate::plan::spec::RunSpec;

/// A switch and the two values it is flipped between; a base that has neither gets the first.
#[derive(Debug)]
pub struct Flip {
    /// Line of docs/divergences.md.
    pub id: &'static str,
    /// Name on the command line.
    pub name: &'static str,
    /// Methods that have it; all when empty.
    pub methods: &'static [&'static str],
    /// `train.<field>` or `options.<option>`.
    pub key: &'static str,
    /// Values as TOML: the first unless the base has it, then the second; one alone is set where the base has another.
    pub values: &'static [&'static str],
}

/// Every switch that can be flipped in a run.
pub static FLIPS: &[Flip] = &[
    flip("D1", "train_head", &[], "train.train_head", &["false", "true"]),
    flip("D2", "target_modules", &["lora"], "options.target_modules", &["['query', 'value']", "'all-linear'"]),
    flip("D3", "variant", &["sora"], "options.variant", &["'paper'", "'released'"]),
    flip("D3", "subgradient", &["sora"], "options.xi", &["0.0"]),
    flip("D5", "l1_term", &["sora"], "options.l1_weight", &["0.0"]),
    flip("D13", "init_r", &["adalora"], "options.init_r", &["16"]),
    flip("D15", "final_phase", &["adalora"], "options.final_phase", &["'peft'", "'released'"]),
    flip("D16", "decay_order", &[], "train.decay_order", &["'after'", "'before'"]),
    flip("D18", "evaluate", &[], "train.evaluate", &["{ steps = 1000 }", "{ epochs = 1 }"]),
    flip("D20", "r", &["lora"], "options.r", &["16", "8"]),
    flip("O2", "padding", &[], "train.padding", &["'max_length'", "{ bucket = 8 }"]),
    flip("O16", "order", &[], "train.order", &["'grouped'", "'random'"]),
];

/// Switches that no run can show alone, with the reason.
pub const NOT_FLIPPED: &[(&str, &str)] = &[
    ("D7", "the sparsifying schedule: just reproduce-figure3"),
    ("D8", "another split has other test rows, so that nothing is paired: --set data.split=official"),
    ("D10", "a recipe's values"),
    ("D19", "seeds are what the pairs are made of"),
    ("O3", "tokenizer: other ids for DeBERTa's vocabulary alone: --tokenizer fast"),
];

const fn flip(
    id: &'static str,
    name: &'static str,
    methods: &'static [&'static str],
    key: &'static str,
    values: &'static [&'static str],
) -> Flip {
    Flip { id, name, methods, key, values }
}

impl Flip {
    /// The run with the switch flipped, and its label; none for another method, or where the base has the only value.
    ///
    /// # Errors
    /// A value that the run's other options do not allow.
    pub fn apply(&self, run: &RunSpec) -> Result<Option<RunSpec>> {
        if !self.methods.is_empty() && !self.methods.contains(&run.method.as_str()) {
            return Ok(None);
        }
        let internal = |e: &dyn std::fmt::Display| Error::Internal(format!("flip {}: {e}", self.name));
        let values: Vec<Value> = self.values.iter().map(|text| grid::value(text)).collect();
        let train = Table::try_from(&run.train).map_err(|e| internal(&e))?;
        let (prefix, field) = self.key.split_once('.').ok_or_else(|| internal(&"its key has no point"))?;
        let current = if prefix == "train" { train.get(field) } else { run.options.get(field) };
        let differs = |value: &&Value| !current.is_some_and(|current| is_same(current, value));
        let Some(wanted) = values.iter().find(differs) else { return Ok(None) };
        let mut flipped = run.clone();
        if prefix == "train" {
            let mut train = train;
            train.insert(field.into(), wanted.clone());
            flipped.train = train.try_into().map_err(|e| internal(&e))?;
        } else {
            flipped.options.insert(field.into(), wanted.clone());
            flipped.options = methods::registry::find(&run.method)?.options(&flipped.options)?;
        }
        let text = grid::text(wanted);
        // A plain L1 subgradient is known by that name, not as a threshold of 0.
        flipped.label = match self.name == field || self.key.ends_with(self.name) {
            true => format!("{} {}={text}", self.id, self.name),
            false => format!("{} {}: {field}={text}", self.id, self.name),
        };
        Ok(Some(flipped))
    }

    /// Whether a run's label is of this flip.
    pub fn is_of(&self, label: &str) -> bool {
        let rest = label.strip_prefix(self.id).and_then(|rest| rest.strip_prefix(' '));
        rest.and_then(|rest| rest.strip_prefix(self.name)).is_some_and(|rest| rest.starts_with(['=', ':']))
    }
}

/// The flip that a label names.
pub fn of_label(label: &str) -> Option<&'static Flip> {
    FLIPS.iter().find(|flip| flip.is_of(label))
}

/// Flips by names or ids; `all` for every one.
///
/// # Errors
/// A name that nothing has.
pub fn named(names: &[String]) -> Result<Vec<&'static Flip>> {
    let mut found: Vec<&Flip> = Vec::new();
    for name in names {
        let matching = FLIPS.iter().filter(|flip| name == "all" || flip.name == name || flip.id == name);
        let before = found.len();
        for flip in matching {
            if !found.iter().any(|known| std::ptr::eq(*known, flip)) {
                found.push(flip);
            }
        }
        let is_known = found.len() > before || FLIPS.iter().any(|flip| flip.name == name || flip.id == name);
        if !is_known {
            let known: Vec<String> = FLIPS.iter().map(|flip| format!("{} ({})", flip.name, flip.id)).collect();
            let why = NOT_FLIPPED.iter().find(|(id, _)| id == name).map(|(_, why)| format!(" ({why})"));
            return Err(Error::Usage(format!(
                "--flip {name}: no such switch{}, expected all or some of {}",
                why.unwrap_or_default(),
                known.join(", ")
            )));
        }
    }
    Ok(found)
}

/// Equal values; a whole number is the number.
fn is_same(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.as_float().or_else(|| value.as_integer().map(|n| n as f64));
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::spec::tests::run_spec;

    #[test]
    fn every_flip_changes_one_thing_and_flips_back() {
        for flip in FLIPS {
            let base = run_spec(flip.methods.first().unwrap_or(&"lora"));
            let flipped = flip.apply(&base).unwrap().unwrap_or_else(|| panic!("{} changes nothing", flip.name));
            assert_ne!(flipped.id(), base.id(), "{}", flip.name);
            assert!(flip.is_of(&flipped.label), "{}", flipped.label);
            assert!(std::ptr::eq(of_label(&flipped.label).unwrap(), flip), "{}", flipped.label);
            let again = flip.apply(&flipped).unwrap();
            match flip.values.len() {
                1 => assert!(again.is_none(), "{}", flip.name),
                _ => assert_ne!(again.unwrap().id(), flipped.id(), "{}", flip.name),
            }
        }
    }

    #[test]
    fn the_released_modules_are_flipped_to_and_back() {
        let flip = FLIPS.iter().find(|flip| flip.id == "D2").unwrap();
        let base = run_spec("lora");
        let released = flip.apply(&base).unwrap().unwrap();
        assert_eq!(released.label, "D2 target_modules=query,value");
        assert_eq!(flip.apply(&released).unwrap().unwrap().id(), base.id());
    }

    #[test]
    fn a_flip_of_another_method_changes_nothing() {
        let variant = FLIPS.iter().find(|flip| flip.name == "variant").unwrap();
        assert!(variant.apply(&run_spec("lora")).unwrap().is_none());
        assert!(of_label("r=4").is_none());
    }

    #[test]
    fn flips_are_named_by_name_id_or_all() {
        let names = |text: &str| named(&[text.to_string()]).map(|flips| flips.len()).map_err(|e| e.to_string());
        assert_eq!((names("all").unwrap(), names("variant").unwrap(), names("D3").unwrap()), (FLIPS.len(), 1, 2));
        assert!(names("D8").unwrap_err().contains("other test rows"));
        assert!(names("varian").unwrap_err().contains("variant (D3)"));
    }
}
