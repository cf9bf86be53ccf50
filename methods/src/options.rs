//! Bounds of the numbers among a method's options.

use std::ops::RangeInclusive;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::adapter::bias::Bias;
use crate::adapter::target_modules::TargetModules;
use crate::error::{Error, Result};

/// Largest rank or width: far above what a checkpoint of the paper's size holds, and below what would exhaust memory.
const MAX_RANK: i64 = 1024;

/// Options of a method, as a recipe gives them.
pub(crate) trait Options: Serialize + DeserializeOwned {
    /// Every number among the options with its bound; none for options without numbers.
    fn bounds(&self) -> Vec<Bound>;

    /// Linears that get a branch; every one for a method that leaves no choice.
    fn target_modules(&self) -> &TargetModules {
        &TargetModules::AllLinear
    }

    /// Biases of the backbone that are trained besides.
    fn bias(&self) -> Bias {
        Bias::None
    }
}

/// A number and where it must lie.
pub(crate) struct Bound {
    option: &'static str,
    got: String,
    expected: String,
    holds: bool,
}

impl Bound {
    /// A rank or width: 1 to [`MAX_RANK`].
    pub(crate) fn rank(option: &'static str, value: i64) -> Self {
        let holds = (1..=MAX_RANK).contains(&value);
        Bound { option, got: value.to_string(), expected: format!("1 to {MAX_RANK}"), holds }
    }

    /// A finite number above 0.
    pub(crate) fn above_zero(option: &'static str, value: f64) -> Self {
        Bound::number(option, value, value > 0.0, "a finite number above 0")
    }

    /// A finite number, 0 or more.
    pub(crate) fn zero_or_more(option: &'static str, value: f64) -> Self {
        Bound::number(option, value, value >= 0.0, "a finite number, 0 or more")
    }

    /// A share: 0 to below 1.
    pub(crate) fn share(option: &'static str, value: f64) -> Self {
        Bound::number(option, value, (0.0..1.0).contains(&value), "0 to below 1")
    }

    /// A count of 1 or more.
    pub(crate) fn count(option: &'static str, value: usize) -> Self {
        Bound { option, got: value.to_string(), expected: "1 or more".into(), holds: value >= 1 }
    }

    /// A whole number in a range.
    pub(crate) fn whole(option: &'static str, value: i64, range: RangeInclusive<i64>, expected: &str) -> Self {
        Bound { option, got: value.to_string(), expected: expected.into(), holds: range.contains(&value) }
    }

    /// An option that another one is needed for.
    pub(crate) fn needs(option: &'static str, value: f64, holds: bool, other: &str) -> Self {
        Bound { option, got: value.to_string(), expected: format!("nothing without `{other}`"), holds }
    }

    /// The same bound with an explanation behind what is expected.
    pub(crate) fn or(mut self, note: &str) -> Self {
        self.expected += &format!(" ({note})");
        self
    }

    fn number(option: &'static str, value: f64, holds: bool, expected: &str) -> Self {
        Bound { option, got: value.to_string(), expected: expected.into(), holds: holds && value.is_finite() }
    }
}

/// Whether an option is at its default and so stays out of a run's id: it came after the option's method.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Refuses options of which one is out of its bounds.
///
/// # Errors
/// The first such option, with what was expected and what was given.
pub(crate) fn check(method: &'static str, options: &impl Options) -> Result<()> {
    let Some(Bound { option, got, expected, .. }) = options.bounds().into_iter().find(|bound| !bound.holds) else {
        return Ok(());
    };
    Err(Error::Options { method, detail: format!("`{option}` is {got}, expected {expected}") })
}

/// Parses the options `O` of a method and writes every one of them out again.
pub(crate) fn resolve_with<O: Options>(method: &'static str, given: &toml::Table) -> Result<toml::Table> {
    let options: O = parse(method, given)?;
    check(method, &options)?;
    toml::Table::try_from(&options).map_err(|e| Error::Options { method, detail: e.to_string() })
}

pub(crate) fn parse<O: DeserializeOwned>(method: &'static str, given: &toml::Table) -> Result<O> {
    given.clone().try_into().map_err(|e: toml::de::Error| Error::Options { method, detail: with_nearest(e.message()) })
}

/// serde's message about an unknown field, with the nearest of the fields it lists.
pub fn with_nearest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let nearest = quoted.next().filter(|_| message.starts_with("unknown field")).and_then(|unknown| {
        let near = quoted.map(|known| (strsim::damerau_levenshtein(known, unknown), known));
        near.filter(|(distance, known)| *distance <= 1 + known.len() / 3).min()
    });
    match nearest {
        Some((_, known)) => format!("{message} (did you mean `{known}`?)"),
        None => message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use toml::{Table, Value};

    use crate::registry::METHODS;

    /// Values no option takes, and those that only a few do.
    fn wrong(key: &str, value: &Value) -> Vec<Value> {
        match value {
            Value::Integer(_) => {
                let zero = (!key.ends_with("tinit") && !key.ends_with("tfinal")).then_some(Value::Integer(0));
                zero.into_iter().chain([-1, -5, i64::MIN].map(Value::Integer)).collect()
            }
            Value::Float(_) => [-1.0, -1e-9, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(Value::Float).to_vec(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn every_number_of_every_method_has_bounds() {
        let mut tried = 0;
        for entry in METHODS {
            // Options that are left out unless given stand in an example.
            for text in [""].iter().chain(entry.examples) {
                let defaults = entry.options(&text.parse().unwrap()).unwrap();
                for (path, value) in numbers("", &defaults) {
                    for bad in wrong(&path, &value) {
                        let mut options = defaults.clone();
                        set(&mut options, &path, bad.clone());
                        let error = entry.options(&options).expect_err(&format!("{} {path} = {bad}", entry.name));
                        assert!(error.to_string().contains(entry.name), "{error}");
                        tried += 1;
                    }
                }
            }
        }
        assert!(tried > 60, "{tried} values tried");
    }

    #[test]
    fn bounds_are_named() {
        let says = |method: &str, text: &str, wanted: &str| {
            let entry = crate::registry::find(method).unwrap();
            let error = entry.options(&toml::from_str(text).unwrap()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        };
        says("adalora", "tinit = -5", "`tinit` is -5, expected 0 to below 1");
        says("adalora", "tfinal = 1.0", "a number of steps is written without a point");
        says("adalora", "beta1 = 1.0", "`beta1` is 1, expected 0 to below 1");
        says("sora", "xi = -3e-4", "`xi` is -0.0003, expected a finite number, 0 or more");
        says("lora", "r = 1025", "`r` is 1025, expected 1 to 1024");
        says("sora", "lambda = 10.0", "`l1_weight`");
    }

    #[test]
    fn a_whole_number_is_a_number() {
        let entry = crate::registry::find("lora").unwrap();
        let options = |text: &str| entry.options(&toml::from_str(text).unwrap()).unwrap();
        assert_eq!(options("alpha = 16"), options("alpha = 16.0"));
    }

    fn numbers(prefix: &str, table: &Table) -> Vec<(String, Value)> {
        let mut found = Vec::new();
        for (key, value) in table {
            let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            match value {
                Value::Table(inner) => found.extend(numbers(&path, inner)),
                value => found.push((path, value.clone())),
            }
        }
        found
    }

    fn set(table: &mut Table, path: &str, value: Value) {
        match path.split_once('.') {
            Some((outer, inner)) => set(table.get_mut(outer).unwrap().as_table_mut().unwrap(), inner, value),
            None => drop(table.insert(path.into(), value)),
        }
    }
}
