//! Documentation of options, read out of the structs that define them: a text about an option stands once.

use crate::error::{Error, Result};

/// Source texts of the methods.
const TUNERS: &[&str] = include!(concat!(env!("OUT_DIR"), "/tuner_sources.rs"));
/// Source text of the training protocol.
const SPEC: &str = include_str!("../plan/spec.rs");
/// Source text of a recipe's other sections.
const RECIPE: &str = include_str!("../plan/recipe.rs");

/// Source text of grids.
const GRID: &str = include_str!("../plan/grid.rs");

/// CSV files with the structs of their lines: file, place, source text, structs.
const FILES: &[(&str, &str, &str, &[&str])] = &[
    ("results.csv", "a report; a line for each run, development set and metric", RUN_ROWS, &["RunRow", "ScoreRow"]),
    ("table1.csv", "a report", include_str!("../analysis/comparison.rs"), &["ComparisonRow"]),
    ("one_task.csv", "a report", include_str!("../analysis/one_task.rs"), &["OneTaskRow"]),
    ("paired.csv", "a report", include_str!("../analysis/paired.rs"), &["PairedRow"]),
    ("run_times.csv", "a report", include_str!("../analysis/cost.rs"), &["CostRow"]),
    ("efficiency.csv", "a report", include_str!("../analysis/efficiency.rs"), &["EfficiencyRow"]),
    ("curves.csv", "a report; every run", include_str!("../report/joined.rs"), &["CurveLine"]),
    ("ranks.csv", "a report; every run", include_str!("../report/joined.rs"), &["RankLine"]),
    ("claims.csv", "a report", include_str!("../analysis/claims.rs"), &["ClaimRow"]),
    ("table2.csv", "a report", include_str!("../analysis/rank_sweep.rs"), &["RankSweepRow"]),
    ("schedule.csv", "a report", include_str!("../analysis/schedule.rs"), &["ScheduleRow"]),
    ("rank_agreement.csv", "a report", include_str!("../analysis/rank_agreement.rs"), &["RankAgreementRow"]),
    ("ablation.csv", "a report", include_str!("../analysis/ablation.rs"), &["AblationRow"]),
    ("tuning.csv", "a report", include_str!("../analysis/tuning.rs"), &["TuningRow"]),
    ("literature.csv", "a report", include_str!("../analysis/literature.rs"), &["LiteratureRow"]),
    ("reruns.csv", "a report", include_str!("../analysis/literature.rs"), &["RerunRow"]),
    ("stages.csv", "a run with stages", STORED_ROWS, &["StageRow"]),
    ("timings.csv", "the folder of a sweep", STORED_ROWS, &["TimingRow"]),
    ("epochs.csv", "a run", STORED_ROWS, &["EpochRow"]),
    ("evals.csv", "a run", STORED_ROWS, &["EvalRow"]),
    ("ranks.csv", "a run", STORED_ROWS, &["RankRow"]),
    ("steps.csv", "a run", STORED_ROWS, &["StepRow"]),
    ("gates.csv", "a run of a method with gates", STORED_ROWS, &["GateRow"]),
    ("predictions.csv", "a run", STORED_ROWS, &["PredictionRow"]),
    ("split.csv", "`rankbench split`", include_str!("split.rs"), &["SplitRow"]),
];
const RUN_ROWS: &str = include_str!("../analysis/frame/rows.rs");
const STORED_ROWS: &str = include_str!("../store/rows.rs");

/// A field of a struct of options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionDoc {
    /// Key in a recipe.
    pub name: String,
    /// Meaning.
    pub text: String,
    /// Values, where they are a few names.
    pub values: Vec<String>,
}

/// Options of a method, and where their defaults come from.
///
/// # Errors
/// A bug only: a method whose options struct is not where its registry line is.
pub fn of_method(name: &str) -> Result<(Vec<OptionDoc>, String)> {
    let missing = || Error::Internal(format!("the options of {name} are not found in the methods' sources"));
    let line = format!("name: \"{name}\",");
    let text = TUNERS.iter().find(|text| text.contains(&line)).ok_or_else(missing)?;
    let after = text.split(&line).nth(1).and_then(|rest| rest.split("resolve_with::<").nth(1)).ok_or_else(missing)?;
    let options = after.split('>').next().ok_or_else(missing)?;
    // The struct may stand in a file of its own beside the registry line.
    let fields = TUNERS.iter().find_map(|text| fields(text, options)).ok_or_else(missing)?;
    Ok((fields, TUNERS.iter().map(|text| source_of_defaults(text, options)).collect()))
}

/// Keys of `[train]`.
pub fn of_train() -> Vec<OptionDoc> {
    fields(SPEC, "TrainSpec").unwrap_or_default().into_iter().filter(|field| field.name != "device").collect()
}

/// Keys of the other parts of a recipe: a struct's name in the sources, and the heading of its section.
pub fn of_recipe() -> Vec<(&'static str, Vec<OptionDoc>)> {
    let sections = [
        (RECIPE, "Recipe", "the top"),
        (RECIPE, "Data", "[data]"),
        (SPEC, "Stages", "stages of [train]"),
        (RECIPE, "Override", "[[override]]"),
        (GRID, "Grid", "[[grid]]"),
        (RECIPE, "Timing", "[timing]"),
    ];
    sections.into_iter().filter_map(|(text, name, heading)| Some((heading, fields(text, name)?))).collect()
}

/// Columns of every CSV file: the file, where it lies, and its columns.
pub fn of_files() -> Vec<(&'static str, &'static str, Vec<OptionDoc>)> {
    let columns = |text: &str, names: &[&str]| names.iter().filter_map(|name| fields(text, name)).flatten().collect();
    FILES.iter().map(|(file, place, text, names)| (*file, *place, columns(text, names))).collect()
}

/// Fields of a struct with their documentation; those of a flattened struct in its place. None where one of the two is not there.
fn fields(text: &str, name: &str) -> Option<Vec<OptionDoc>> {
    let body = body(text, "struct", name)?;
    let (mut fields, mut doc, mut attributes) = (Vec::new(), Vec::new(), String::new());
    for line in body.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("///") {
            doc.push(comment.trim());
        } else if line.starts_with("#[") {
            attributes += line;
        } else if let Some((field, kind)) = line.trim_start_matches("pub ").split_once(':') {
            let kind = kind.trim().trim_end_matches(',');
            let kind = kind.strip_prefix("Option<").and_then(|kind| kind.strip_suffix('>')).unwrap_or(kind);
            let kind = kind.rsplit("::").next().unwrap_or(kind);
            if attributes.contains("flatten") {
                // A table has no keys of its own.
                let of_kind = || [text].iter().chain(TUNERS).find_map(|text| self::fields(text, kind));
                fields.extend(if kind == "Table" { Vec::new() } else { of_kind()? });
            } else {
                // A column of a frame may be named otherwise: `label = "variant"`.
                let column = field.split('"').nth(1).unwrap_or(field.trim_start_matches("r#").trim());
                let name = renamed(&attributes).unwrap_or_else(|| column.to_string());
                fields.push(OptionDoc { name, text: doc.join(" "), values: variants(text, kind) });
            }
            (doc, attributes) = Default::default();
        }
    }
    Some(fields)
}

/// Text between the braces of an item; empty for one without.
fn body<'a>(text: &'a str, item: &str, name: &str) -> Option<&'a str> {
    let at = [" {", "<"].iter().find_map(|next| text.find(&format!("{item} {name}{next}")))?;
    let rest = text[at..].split_once('{')?.1;
    let end = if rest.starts_with('}') { 0 } else { rest.find("\n}").or_else(|| rest.find('}'))? };
    Some(&rest[..end])
}

fn renamed(attributes: &str) -> Option<String> {
    Some(attributes.split("rename = \"").nth(1)?.split('"').next()?.to_string())
}

/// Names of an enum's variants as a recipe writes them; none where one holds a value.
fn variants(text: &str, name: &str) -> Vec<String> {
    let Some(body) = body(text, "enum", name) else { return Vec::new() };
    let lines = body.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"));
    let (mut names, mut given) = (Vec::new(), None);
    for line in lines {
        match line.strip_suffix(',') {
            _ if line.starts_with("#[") => given = renamed(line),
            Some(name) if name.chars().all(char::is_alphanumeric) => {
                names.push(given.take().unwrap_or_else(|| snake_case(name)));
            }
            _ => return Vec::new(),
        }
    }
    names
}

fn snake_case(name: &str) -> String {
    let letter = |(at, c): (usize, char)| match c.is_uppercase() && at > 0 {
        true => vec!['_', c.to_ascii_lowercase()],
        false => vec![c.to_ascii_lowercase()],
    };
    name.char_indices().flat_map(letter).collect()
}

/// Documentation of a struct's `Default`.
fn source_of_defaults(text: &str, name: &str) -> String {
    let Some(at) = text.find(&format!("impl Default for {name} {{")) else { return String::new() };
    let before = text[at..].split("fn default").next().unwrap_or_default();
    before.lines().filter_map(|line| line.trim().strip_prefix("///")).map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use methods::adapter::branch_options::BranchOptions;
    use methods::registry::METHODS;

    use super::*;

    #[test]
    fn every_option_of_every_method_is_documented() {
        for method in METHODS {
            let (docs, source) = of_method(method.name).unwrap();
            let defaults = method.options(&toml::Table::new()).unwrap();
            for key in defaults.keys() {
                let found = docs.iter().find(|doc| doc.name == *key);
                assert!(found.is_some_and(|doc| doc.text.len() > 3), "{}: {key} has no text", method.name);
            }
            // Those without a default are not among them.
            let bias = toml::from_str("bias = \"none\"").unwrap();
            for key in BranchOptions::KEYS.iter().filter(|_| method.options(&bias).is_ok()) {
                assert!(docs.iter().any(|doc| doc.name == *key), "{}: {key} has no text", method.name);
            }
            assert!(defaults.is_empty() || !source.is_empty(), "{}: its defaults have no source", method.name);
        }
    }

    #[test]
    fn fields_values_and_sources_are_read() {
        assert_eq!(of_method("bitfit").unwrap().0, [], "a struct without a field");
        let (docs, source) = of_method("sora").unwrap();
        let variant = docs.iter().find(|doc| doc.name == "variant").unwrap();
        assert_eq!(
            (variant.text.as_str(), variant.values.as_slice()),
            ("Released or paper form.", ["released", "paper"].map(String::from).as_slice())
        );
        assert!(docs.iter().any(|doc| doc.name == "gate_lr"), "an option without a default is there too");
        assert!(source.contains("spec §4.5"), "{source}");
        for (file, _, columns) in of_files() {
            assert!(!columns.is_empty(), "{file} has no columns");
        }
        let train = of_train();
        assert!(train.iter().any(|doc| doc.name == "lr") && train.iter().all(|doc| !doc.text.is_empty()));
        let order = train.iter().find(|doc| doc.name == "order").unwrap();
        assert_eq!(order.values, ["random", "grouped"]);
    }
}
