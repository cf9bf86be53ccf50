//! Options of a method: read from a recipe, checked, and written out in full.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::adapter::branch_options::BranchOptions;
use crate::bound::Bound;
use crate::error::{Error, Result};

/// Options of a method, as a recipe gives them.
pub(crate) trait Options: Serialize + DeserializeOwned {
    /// Every number among the options with its bound; none for options without numbers.
    fn bounds(&self) -> Vec<Bound>;

    /// Keys of its [`BranchOptions`]; none for a method without low-rank branches.
    const BRANCH_KEYS: &'static [&'static str] = &[];

    /// Its [`BranchOptions`], where it has [`Options::BRANCH_KEYS`].
    fn branch(&mut self) -> Option<&mut BranchOptions> {
        None
    }
}

/// Refuses options of which one is out of its bounds.
///
/// # Errors
/// The first such option, with what was expected and what was given.
pub(crate) fn check(method: &'static str, options: &impl Options) -> Result<()> {
    match options.bounds().iter().find_map(Bound::violation) {
        Some(detail) => Err(Error::Options { method, detail }),
        None => Ok(()),
    }
}

/// Parses the options `O` of a method and writes every one of them out again.
pub(crate) fn resolve_with<O: Options>(method: &'static str, given: &toml::Table) -> Result<toml::Table> {
    let options: O = parse(method, given)?;
    check(method, &options)?;
    toml::Table::try_from(&options).map_err(|e| Error::Options { method, detail: e.to_string() })
}

/// Reads the options of a method; those of its branches are taken by themselves, since serde refuses no unknown key beside a flattened
/// struct.
///
/// # Errors
/// An unknown key, a value of the wrong type.
pub(crate) fn parse<O: Options>(method: &'static str, given: &toml::Table) -> Result<O> {
    let is_of_branch = |key: &String| O::BRANCH_KEYS.contains(&key.as_str());
    let (of_branch, own): (toml::Table, toml::Table) =
        given.clone().into_iter().partition(|(key, _)| is_of_branch(key));
    let wrong = |e: toml::de::Error| {
        let also: String = O::BRANCH_KEYS.iter().map(|key| format!(", `{key}`")).collect();
        let also = if e.message().starts_with("unknown field") { also } else { String::new() };
        Error::Options { method, detail: with_nearest(&format!("{}{also}", e.message())) }
    };
    let mut options: O = own.try_into().map_err(wrong)?;
    if let Some(branch) = options.branch() {
        *branch = of_branch.try_into().map_err(wrong)?;
    }
    Ok(options)
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
        for method in ["lora", "adalora", "sora", "dora", "dylora"] {
            says(method, "lora_dropout = 0.999993", "`lora_dropout` is 0.999993, expected 0 to 65535/65536");
            says(method, "lora_droput = 0.1", "(did you mean `lora_dropout`?)");
        }
        says("full", "bias = 'all'", "unknown field `bias`");
    }

    #[test]
    fn the_largest_dropout_is_taken() {
        let entry = crate::registry::find("lora").unwrap();
        assert!(entry.options(&"lora_dropout = 0.9999847412109375".parse().unwrap()).is_ok());
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
