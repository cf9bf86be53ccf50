//! Grids: lists of values for fields of `[train]` and options of methods, which multiply the runs of a recipe. Each point of a grid
//! is a setting, and gives its runs their label.

use datasets::Task;
use methods::method::MethodEntry;
use methods::registry;
use serde::{Deserialize, Deserializer, Serialize};
use toml::{Table, Value};

use crate::error::{Error, Result};

/// Lists of values, and where they hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Grid {
    /// Tasks it holds for; all when left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<String>,
    /// Methods it holds for; when left out all that have the option.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// How its lists are combined.
    pub combine: Combine,
    /// Label of its runs instead of `key=value`; an empty one adds nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Lists by key: `train.<field>` or `options.<option>`.
    #[serde(flatten)]
    pub axes: Table,
}

/// How the lists of a grid are combined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// Every value of one with every value of the others.
    #[default]
    Product,
    /// The first values together, the second values together, and so on.
    Zip,
}

/// One setting of a grid.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GridPoint {
    /// Values by key.
    pub settings: Vec<(String, Value)>,
    /// Text that tells it from the others, e.g. `r=4 lr=0.001`.
    pub label: String,
}

impl GridPoint {
    /// Overwrites what the point sets below `prefix` (`train.` or `options.`).
    pub fn apply(&self, prefix: &str, table: &mut Table) {
        for (key, value) in &self.settings {
            if let Some(path) = key.strip_prefix(prefix) {
                set(table, path, value.clone());
            }
        }
    }

    /// This point and then another, whose label follows.
    fn and(&self, other: &GridPoint) -> GridPoint {
        let labels = [&self.label, &other.label].map(String::as_str);
        GridPoint {
            settings: self.settings.iter().chain(&other.settings).cloned().collect(),
            label: labels.into_iter().filter(|label| !label.is_empty()).collect::<Vec<_>>().join(" "),
        }
    }
}

impl Grid {
    /// Refuses lists that cannot be combined.
    ///
    /// # Errors
    /// A key that is no field or option, a value that is no list, an empty list, lists of different lengths to be zipped.
    pub fn check(&self) -> std::result::Result<(), String> {
        let mut lengths = Vec::new();
        for (key, value) in &self.axes {
            if !key.starts_with("train.") && !key.starts_with("options.") {
                return Err(format!(
                    "`{key}` is no axis, expected \"train.<field>\" or \"options.<option>\", in quotes"
                ));
            }
            match value.as_array() {
                Some(values) if !values.is_empty() => lengths.push(values.len()),
                _ => return Err(format!("`{key}` is {value}, expected a list of one value or more")),
            }
        }
        match self.combine {
            Combine::Zip if lengths.windows(2).any(|pair| pair[0] != pair[1]) => {
                Err(format!("lists of {lengths:?} values cannot be zipped, expected lists of one length"))
            }
            _ => Ok(()),
        }
    }

    fn holds(&self, task: &Task, method: &MethodEntry) -> bool {
        let among = |names: &[String], name: &str| names.is_empty() || names.iter().any(|known| known == name);
        among(&self.tasks, task.name) && among(&self.methods, method.name)
    }

    /// Whether an axis is one for this method. An option of other methods is none, unless the grid names its methods.
    fn reaches(&self, key: &str, method: &MethodEntry) -> bool {
        !self.methods.is_empty() || has_option(method, key)
    }

    /// Its settings without the axes that `replaced` names.
    fn points(&self, method: &MethodEntry, replaced: impl Fn(&str) -> bool) -> Vec<GridPoint> {
        let axes = self.axes.iter().filter(|(key, _)| self.reaches(key, method) && !replaced(key));
        let axes: Vec<Vec<GridPoint>> = axes.map(|(key, values)| self.axis(key, values)).collect();
        let mut points = match self.combine {
            Combine::Product => product(&axes),
            Combine::Zip => {
                let along = |index| axes.iter().fold(GridPoint::default(), |all, axis| all.and(&axis[index]));
                (0..axes.first().map_or(0, Vec::len)).map(along).collect()
            }
        };
        if let (Some(label), false) = (&self.label, axes.is_empty()) {
            points.iter_mut().for_each(|point| point.label = label.clone());
        }
        points
    }

    fn axis(&self, key: &str, values: &Value) -> Vec<GridPoint> {
        let point = |value: &Value| GridPoint {
            settings: vec![(key.to_string(), value.clone())],
            label: format!("{}={}", short(key), text(value)),
        };
        values.as_array().into_iter().flatten().map(point).collect()
    }
}

/// Settings of the runs of one method on one task, at least one; a later grid replaces a key of an earlier one.
pub fn points(grids: &[Grid], task: &Task, method: &MethodEntry) -> Vec<GridPoint> {
    let holding: Vec<&Grid> = grids.iter().filter(|grid| grid.holds(task, method)).collect();
    let of_grid = |(index, grid): (usize, &&Grid)| {
        let later = &holding[index + 1..];
        let replaced =
            |key: &str| later.iter().any(|grid| grid.reaches(key, method) && grid.axes.keys().any(|k| overlap(k, key)));
        grid.points(method, replaced)
    };
    let of_grids: Vec<Vec<GridPoint>> =
        holding.iter().enumerate().map(of_grid).filter(|points| !points.is_empty()).collect();
    let mut distinct: Vec<GridPoint> = Vec::new();
    for point in product(&of_grids) {
        if distinct.iter().all(|known| known.settings != point.settings) {
            distinct.push(point);
        }
    }
    distinct
}

/// Every combination, the last list fastest; of no list the one empty setting.
fn product(lists: &[Vec<GridPoint>]) -> Vec<GridPoint> {
    lists.iter().fold(vec![GridPoint::default()], |all, list| {
        all.iter().flat_map(|point| list.iter().map(|next| point.and(next))).collect()
    })
}

/// Whether one key is the other, or a part of it.
fn overlap(a: &str, b: &str) -> bool {
    a == b || [(a, b), (b, a)].iter().any(|(long, short)| long.strip_prefix(*short).is_some_and(|r| r.starts_with('.')))
}

/// Whether a method has the option of a key like `options.r`; fields of `[train]` are every method's.
pub fn has_option(method: &MethodEntry, key: &str) -> bool {
    let Some(option) = key.strip_prefix("options.") else { return true };
    let option = option.split('.').next().unwrap_or(option);
    // No option takes an empty table of a name it does not know; one that it knows has another complaint, or none.
    let probe = Table::from_iter([(option.to_string(), Value::Table(Table::new()))]);
    !method.options(&probe).is_err_and(|error| error.to_string().contains(&format!("unknown field `{option}`")))
}

/// Refuses axes that no method of the recipe has.
///
/// # Errors
/// The first such axis, with the nearest option of each method.
pub fn check_reach(grids: &[Grid], methods: &[&'static MethodEntry]) -> std::result::Result<(), String> {
    for grid in grids {
        let named = grid.methods.iter().map(|name| registry::find(name).map_err(|e| e.to_string()));
        let named = named.collect::<std::result::Result<Vec<_>, _>>()?;
        for key in grid.axes.keys() {
            let meant: &[&MethodEntry] = if named.is_empty() { methods } else { &named };
            if !meant.iter().any(|method| has_option(method, key)) {
                let names = meant.iter().map(|method| method.name).collect::<Vec<_>>().join(", ");
                return Err(format!(
                    "no method of {names} has the option of `{key}`; `rankbench run --dry-run=toml` prints all"
                ));
            }
        }
    }
    Ok(())
}

/// The last part of a key: `spacing` of `options.xi_schedule.spacing`.
fn short(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// A value as labels have it: a text without quotes, and a list as its values with commas between them.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Sets `a.b.c` below a table.
fn set(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(table.insert(path.to_string(), value)),
        Some((outer, inner)) => {
            let entry = table.entry(outer).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            if let Value::Table(table) = entry {
                set(table, inner, value);
            }
        }
    }
}

/// Reads `[grid]` or several `[[grid]]`.
pub(crate) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Grid>, D::Error> {
    let grids = match Value::deserialize(deserializer)? {
        Value::Array(grids) => grids,
        one => vec![one],
    };
    let read = |grid: Value| grid.try_into::<Grid>().map_err(|e| e.message().to_string());
    let read = grids.into_iter().map(read).collect::<std::result::Result<Vec<Grid>, _>>();
    let checked = read.and_then(|grids| grids.iter().try_for_each(Grid::check).map(|()| grids));
    checked.map_err(serde::de::Error::custom)
}

/// `[METHOD.]key=value[,value…]` of `--set`: method, key and values. `METHOD.option` is short for `METHOD.options.option`.
///
/// # Errors
/// No `=`, no key, no value.
pub fn assignment(text: &str) -> Result<(Option<String>, String, Vec<Value>)> {
    let wrong = || Error::Usage(format!("--set {text}: expected [METHOD.]key=value[,value…], e.g. options.r=1,2,4"));
    let (key, values) = text.split_once('=').ok_or_else(wrong)?;
    let values: Vec<Value> = pieces(values).into_iter().map(value).collect();
    let key = key.trim();
    if key.is_empty() || values.iter().any(|value| value.as_str() == Some("")) {
        return Err(wrong());
    }
    let is_whole = |key: &str| key.starts_with("train.") || key.starts_with("options.");
    Ok(match key.split_once('.') {
        Some((method, key)) if is_whole(key) => (Some(registry::find(method)?.name.into()), key.into(), values),
        Some((method, option)) if registry::find(method).is_ok() => {
            (Some(method.into()), format!("options.{option}"), values)
        }
        _ => (None, key.into(), values),
    })
}

/// A text cut at its commas, but for those inside brackets or quotes.
fn pieces(text: &str) -> Vec<&str> {
    let (mut depth, mut quoted, mut start, mut found) = (0i32, false, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            '[' | '{' if !quoted => depth += 1,
            ']' | '}' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(text[start..].trim());
    found
}

/// A value as TOML has it; what TOML does not know is a list of such values where it stands in brackets, and else a text.
pub fn value(text: &str) -> Value {
    let table: std::result::Result<Table, _> = toml::from_str(&format!("value = {text}"));
    let value = table.ok().filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
    // A shell takes the quotes away.
    let unquoted = || text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let list = || Some(Value::Array(pieces(unquoted()?).into_iter().map(self::value).collect()));
    value.or_else(list).unwrap_or_else(|| Value::String(text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grids(text: &str) -> Vec<Grid> {
        #[derive(Deserialize)]
        struct File {
            #[serde(deserialize_with = "one_or_many")]
            grid: Vec<Grid>,
        }
        toml::from_str::<File>(text).unwrap_or_else(|e| panic!("{e}")).grid
    }

    fn labels(text: &str, method: &str) -> Vec<String> {
        let rte = datasets::tasks::find("rte").unwrap();
        points(&grids(text), rte, registry::find(method).unwrap()).into_iter().map(|point| point.label).collect()
    }

    #[test]
    fn lists_multiply_and_an_option_reaches_the_methods_that_have_it() {
        let text = "[grid]\n'options.r' = [1, 2]\n'train.lr' = [0.001, 0.01]";
        assert_eq!(labels(text, "lora"), ["r=1 lr=0.001", "r=1 lr=0.01", "r=2 lr=0.001", "r=2 lr=0.01"]);
        assert_eq!(labels(text, "adalora"), ["lr=0.001", "lr=0.01"]);
        assert_eq!(labels("[grid]\n'options.r' = [1, 2]", "adalora"), [""]);
    }

    #[test]
    fn lists_are_zipped_and_grids_multiply() {
        let text = "[[grid]]\ncombine = 'zip'\n'options.r' = [1, 2]\n'options.alpha' = [4.0, 8.0]\n\
                    [[grid]]\nmethods = ['lora']\n'train.epochs' = [1, 2]";
        assert_eq!(labels(text, "sora"), ["alpha=4.0 r=1", "alpha=8.0 r=2"]);
        assert_eq!(labels(text, "lora").len(), 4);
    }

    #[test]
    fn a_later_grid_replaces_a_key_of_an_earlier_one() {
        let text = "[[grid]]\n'options.r' = [1, 2, 4]\n'train.lr' = [0.1]\n[[grid]]\n'options.r' = [3]";
        assert_eq!(labels(text, "lora"), ["lr=0.1 r=3"]);
        let text = "[[grid]]\n'options.r' = [1, 2]\n[[grid]]\ntasks = ['cola']\n'options.r' = [3]";
        assert_eq!(labels(text, "lora"), ["r=1", "r=2"]);
    }

    #[test]
    fn a_label_of_its_own_stands_for_the_values() {
        assert_eq!(labels("[grid]\nlabel = 'D16'\n'train.decay_order' = ['before']", "lora"), ["D16"]);
        assert_eq!(labels("[grid]\nlabel = ''\n'train.lr' = [0.1]", "lora"), [""]);
    }

    #[test]
    fn nested_keys_are_set_where_they_belong() {
        let point = GridPoint {
            settings: vec![("options.xi_schedule.spacing".into(), "linear".into()), ("train.lr".into(), 0.1.into())],
            label: String::new(),
        };
        let mut options: Table = toml::from_str("xi_schedule = { max = 1e-3, stages = 3 }").unwrap();
        point.apply("options.", &mut options);
        assert_eq!(options["xi_schedule"]["spacing"].as_str(), Some("linear"));
        assert_eq!(options["xi_schedule"]["stages"].as_integer(), Some(3));
        assert_eq!(options.len(), 1);
    }

    #[test]
    fn wrong_grids_are_named() {
        let wrong = |text: &str| {
            let grid: Grid = toml::from_str(text).unwrap();
            grid.check().unwrap_err()
        };
        assert!(wrong("'lr' = [1]").contains("`lr` is no axis"));
        assert!(wrong("'train.lr' = 1").contains("expected a list"));
        assert!(wrong("'train.lr' = []").contains("expected a list"));
        assert!(wrong("combine = 'zip'\n'train.lr' = [1]\n'options.r' = [1, 2]").contains("cannot be zipped"));
        let lora = [registry::find("lora").unwrap()];
        let grid: Grid = toml::from_str("'options.xi' = [1]").unwrap();
        assert!(check_reach(&[grid], &lora).unwrap_err().contains("`options.xi`"));
    }

    #[test]
    fn a_list_in_brackets_is_one_value_with_quotes_or_without() {
        let of = |text: &str| assignment(&format!("options.target_modules={text}")).unwrap().2;
        let names: Value = vec!["query", "value"].into();
        for text in [r#"["query","value"]"#, "['query', 'value']", "[query,value]", "[ query , value ]"] {
            assert_eq!(of(text), std::slice::from_ref(&names), "{text}");
        }
        assert_eq!(of("[query,value],all-linear"), [names, "all-linear".into()]);
        let text = "[grid]\n'options.target_modules' = [['query', 'value'], ['dense'], 'all-linear']";
        let wanted = ["target_modules=query,value", "target_modules=dense", "target_modules=all-linear"];
        assert_eq!(labels(text, "sora"), wanted);
        assert_eq!(labels(text, "bitfit"), [""]);
    }

    #[test]
    fn assignments_are_read_as_toml_and_texts() {
        let values = |text: &str| assignment(text).unwrap();
        assert_eq!(values("options.r=1,2"), (None, "options.r".into(), vec![1.into(), 2.into()]));
        assert_eq!(values("sora.options.variant=paper").0.as_deref(), Some("sora"));
        assert_eq!(values("sora.options.variant=paper").2, ["paper".into()]);
        assert_eq!(values("train.lr=1e-3").2, [0.001.into()]);
        assert_eq!(values("train.evaluate={ steps = 5 },{ epochs = 1 }").2.len(), 2);
        assert_eq!(values("lora.target_modules=all-linear"), values("lora.options.target_modules=all-linear"));
        assert!(assignment("options.r").is_err() && assignment("options.r=").is_err() && assignment("=1").is_err());
        assert!(assignment("lara.options.r=1").unwrap_err().to_string().contains("lora"));
    }
}
