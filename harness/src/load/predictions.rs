//! Predictions that another program made on the rows of a split, read and held against it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use datasets::lines::line_of;
use datasets::metrics::largest;
use datasets::split::{DevSplit, Split, TEST, VALIDATION};
use datasets::{Example, Labels, Task};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Columns of a file of predictions, and keys of its JSON lines. `task` and `label` need not be there; where they are, they must agree.
/// `file` is that of `rankbench split`; split and row say it already.
const COLUMNS: [&str; 8] = ["task", "dev_set", "split", "file", "row", "label", "prediction", "logits"];
/// Rows that a message lists.
const LISTED: usize = 5;

/// One prediction as a file gives it.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenPrediction {
    split: String,
    dev_set: String,
    row: usize,
    label: Option<f64>,
    value: f64,
}

/// Predictions on one split of one development set, in the order of its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitPredictions {
    /// `validation` or `test`, as a run stores it: under the official policy the one set of rows is `validation`.
    pub split: &'static str,
    /// Development set.
    pub dev_set: &'static str,
    /// Rows in the source file.
    pub rows: Vec<usize>,
    /// True class ids or scores.
    pub labels: Vec<f64>,
    /// Predicted ones.
    pub values: Vec<f64>,
}

/// Reads a file of predictions: CSV with a header, or one JSON object a line.
///
/// # Errors
/// A file that cannot be read; a line with an unknown or missing column, or a value that is none: named with line and column.
pub fn read(path: &Path, task: &Task) -> Result<Vec<GivenPrediction>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::input(path, e))?;
    let lines = if text.trim_start().starts_with('{') { json_lines(&text) } else { csv_lines(&text) };
    let place = |byte: u64, problem: String| {
        Error::Input(format!("{}, line {}: {problem}", path.display(), line_of(&text, byte)))
    };
    let lines = lines.map_err(|(byte, problem)| place(byte, problem))?;
    if lines.is_empty() {
        return Err(Error::Input(format!("{} holds no prediction", path.display())));
    }
    let given =
        |(byte, fields): (u64, Map<String, Value>)| prediction(&fields, task).map_err(|problem| place(byte, problem));
    lines.into_iter().map(given).collect()
}

/// Fields of each line, all of [`COLUMNS`], with the byte it begins at, or that of a line that is wrong and why.
type Lines = std::result::Result<Vec<(u64, Map<String, Value>)>, (u64, String)>;

fn json_lines(text: &str) -> Lines {
    let fields = |line: &str| {
        let fields: Map<String, Value> = serde_json::from_str(line).map_err(|e| e.to_string())?;
        known_columns(fields.keys().map(String::as_str)).map(|()| fields)
    };
    let places = text.split_inclusive('\n').scan(0, |next, line| {
        let byte = *next;
        *next += line.len() as u64;
        Some((byte, line))
    });
    let lines = places.filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(byte, line)| fields(line).map(|fields| (byte, fields)).map_err(|problem| (byte, problem))).collect()
}

fn csv_lines(text: &str) -> Lines {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let byte = |at: Option<&csv::Position>| at.map_or(0, csv::Position::byte);
    let wrong = |e: csv::Error| (byte(e.position()), e.to_string());
    let names = reader.headers().map_err(wrong)?.clone();
    known_columns(names.iter().map(str::trim)).map_err(|problem| (0, problem))?;
    let fields = |record: csv::StringRecord| {
        let cells = names.iter().zip(record.iter()).filter(|(_, cell)| !cell.trim().is_empty());
        let fields = cells.map(|(name, cell)| (name.trim().to_string(), Value::from(cell.trim())));
        (byte(record.position()), fields.collect())
    };
    reader.records().map(|record| record.map(fields).map_err(wrong)).collect()
}

/// Refuses a column that is none of [`COLUMNS`].
fn known_columns<'a>(mut names: impl Iterator<Item = &'a str>) -> std::result::Result<(), String> {
    match names.find(|name| !COLUMNS.contains(name)) {
        Some(unknown) => Err(datasets::Error::unknown("column", unknown, COLUMNS).to_string()),
        None => Ok(()),
    }
}

fn prediction(fields: &Map<String, Value>, task: &Task) -> std::result::Result<GivenPrediction, String> {
    let text = |name: &str| fields.get(name).map(plain);
    if let Some(other) = text("task").filter(|own| own != task.name) {
        return Err(format!("a prediction for task {other}, expected {}", task.name));
    }
    let row =
        text("row").ok_or("no row: expected the row's number in the official file, as `rankbench split` writes it")?;
    let row = row.parse().map_err(|_| format!("row '{row}', expected a whole number from 0"))?;
    let value = match (fields.get("prediction"), fields.get("logits")) {
        (Some(prediction), None) => class_or_score(&plain(prediction), &task.labels),
        (None, Some(logits)) => decided(logits, &task.labels),
        (Some(_), Some(_)) => Err("both a prediction and logits, expected one of them".into()),
        (None, None) => Err("neither a prediction nor logits".into()),
    };
    let label = text("label").map(|label| class_or_score(&label, &task.labels)).transpose()?;
    let dev_set = match (text("dev_set"), task.dev_sets()) {
        (Some(name), sets) if sets.iter().any(|set| set.name == name) => name,
        (None, [only]) => only.name.to_string(),
        (given, sets) => {
            let names: Vec<&str> = sets.iter().map(|set| set.name).collect();
            return Err(format!("dev_set '{}', expected {}", given.unwrap_or_default(), names.join(" or ")));
        }
    };
    let split = text("split").unwrap_or_else(|| TEST.into());
    if ![VALIDATION, TEST].contains(&split.as_str()) {
        return Err(format!("split '{split}', expected {VALIDATION} or {TEST}"));
    }
    Ok(GivenPrediction { split, dev_set, row, label, value: value? })
}

/// A value as a CSV file would hold it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.trim().to_string())
}

/// A class by its name or id, or a score.
fn class_or_score(text: &str, labels: &Labels) -> std::result::Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    match labels {
        Labels::Score(..) => number.ok_or_else(|| format!("'{text}', expected a score, a finite number")),
        Labels::Classes(names) => {
            let named = names.iter().position(|name| *name == text).map(|id| id as f64);
            let id = number.filter(|id| id.fract() == 0.0 && (0.0..names.len() as f64).contains(id));
            let to = if names.len() == 2 { "or" } else { "to" };
            let expected =
                || format!("'{text}', expected a class: {}, or 0 {to} {}", names.join(", "), names.len() - 1);
            named.or(id).ok_or_else(expected)
        }
    }
}

/// The class or score that logits predict, separated by blanks or as a list.
fn decided(logits: &Value, labels: &Labels) -> std::result::Result<f64, String> {
    let values: Option<Vec<f64>> = match logits {
        Value::Array(values) => values.iter().map(Value::as_f64).collect(),
        other => plain(other).split_whitespace().map(|text| text.parse().ok()).collect(),
    };
    let values =
        values.filter(|values| values.len() == labels.outputs() && values.iter().all(|value| value.is_finite()));
    let values = values.ok_or_else(|| {
        format!("logits '{}', expected {} finite numbers with blanks between them", plain(logits), labels.outputs())
    })?;
    Ok(if values.len() == 1 { values[0] } else { largest(&values) })
}

/// Holds predictions against a split: every row of each test split exactly once, and of a validation split where one of its rows is
/// there.
///
/// # Errors
/// Rows that are missing, doubled or not of the split, by number and count; a label that is not the row's.
pub fn fit(given: &[GivenPrediction], split: &Split, task: &Task) -> Result<Vec<SplitPredictions>> {
    let mut found = Vec::new();
    for set in &split.dev_sets {
        let of = |names: &[&str]| {
            let is_of = |own: &&GivenPrediction| own.dev_set == set.name && names.contains(&own.split.as_str());
            given.iter().filter(is_of).collect::<Vec<_>>()
        };
        if set.is_one_set() {
            found.push(of_split(&of(&[VALIDATION, TEST]), set, VALIDATION, &set.validation, task)?);
            continue;
        }
        let validation = of(&[VALIDATION]);
        if !validation.is_empty() {
            found.push(of_split(&validation, set, VALIDATION, &set.validation, task)?);
        }
        found.push(of_split(&of(&[TEST]), set, TEST, &set.test, task)?);
    }
    Ok(found)
}

fn of_split(
    given: &[&GivenPrediction],
    set: &DevSplit,
    split: &'static str,
    rows: &[Example],
    task: &Task,
) -> Result<SplitPredictions> {
    let mut by_row: BTreeMap<usize, &GivenPrediction> = BTreeMap::new();
    let doubled: BTreeSet<usize> =
        given.iter().copied().filter(|own| by_row.insert(own.row, own).is_some()).map(|own| own.row).collect();
    let known: BTreeSet<usize> = rows.iter().map(|row| row.row).collect();
    let missing: Vec<usize> = known.iter().copied().filter(|row| !by_row.contains_key(row)).collect();
    let unknown: Vec<usize> = by_row.keys().copied().filter(|row| !known.contains(row)).collect();
    let wrong = |row: &&Example| by_row.get(&row.row).and_then(|own| own.label).is_some_and(|label| label != row.label);
    let mislabelled: Vec<usize> = rows.iter().filter(wrong).map(|row| row.row).collect();
    let problems = [
        (missing, "missing"),
        (doubled.into_iter().collect(), "given more than once"),
        (unknown, "not of this split"),
        (mislabelled, "with a label that is not the row's"),
    ];
    let problems: Vec<String> = problems
        .iter()
        .filter(|(rows, _)| !rows.is_empty())
        .map(|(rows, what)| format!("{} {what} ({})", rows.len(), listed(rows)))
        .collect();
    if !problems.is_empty() {
        return Err(Error::Input(format!(
            "predictions for {}, {} split of {}: expected each of its {} rows once, got {} lines: {}. `rankbench split --task {}` writes \
             the rows of every split",
            task.title,
            split,
            set.name,
            rows.len(),
            given.len(),
            problems.join(", "),
            task.name
        )));
    }
    Ok(SplitPredictions {
        split,
        dev_set: set.name,
        rows: rows.iter().map(|row| row.row).collect(),
        labels: rows.iter().map(|row| row.label).collect(),
        values: rows.iter().filter_map(|row| by_row.get(&row.row).map(|own| own.value)).collect(),
    })
}

fn listed(rows: &[usize]) -> String {
    let first: Vec<String> = rows.iter().take(LISTED).map(|row| format!("row {row}")).collect();
    first.join(", ") + if rows.len() > LISTED { ", …" } else { "" }
}

#[cfg(test)]
mod tests {
    use datasets::split::{Policy, split};

    use super::*;

    fn task(name: &str) -> &'static Task {
        datasets::tasks::find(name).unwrap()
    }

    fn parsed(text: &str, name: &str) -> Result<Vec<GivenPrediction>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path(), task(name))
    }

    fn values(text: &str, name: &str) -> Vec<f64> {
        parsed(text, name).unwrap().iter().map(|given| given.value).collect()
    }

    #[test]
    fn classes_scores_and_logits_are_read_from_csv_and_json() {
        assert_eq!(values("row,prediction\n3,not_entailment\n4,0\n5,1.0\n", "rte"), [1.0, 0.0, 1.0]);
        assert_eq!(values("row,logits\n3,0.1 -2e-1\n4,0 1\n", "rte"), [0.0, 1.0]);
        assert_eq!(
            values("{\"row\": 3, \"logits\": [0.5, 2]}\n\n{\"row\": 4, \"prediction\": 0}\n", "rte"),
            [1.0, 0.0]
        );
        assert_eq!(values("row,logits\n3,2.5\n", "stsb"), [2.5]);
        assert_eq!(values("row,prediction\n3,-0.25\n", "stsb"), [-0.25]);
        let given = parsed("dev_set,split,row,prediction\nmismatched,validation,7,neutral\n", "mnli").unwrap();
        assert_eq!((given[0].dev_set.as_str(), given[0].split.as_str(), given[0].row), ("mismatched", VALIDATION, 7));
    }

    #[test]
    fn what_is_wrong_on_a_line_is_named() {
        let wrong = [
            ("row,predicton\n3,0\n", "rte", "line 1: unknown column 'predicton' (did you mean 'prediction'?)"),
            ("row,prediction\n3,2\n", "rte", "line 2: '2', expected a class: entailment, not_entailment, or 0 or 1"),
            ("row,prediction\n3,0.5\n", "rte", "'0.5', expected a class"),
            ("row,prediction\n3,nan\n", "stsb", "'nan', expected a score"),
            ("row,logits\n3,1 2 3\n", "rte", "expected 2 finite numbers"),
            ("row,logits\n3,1 inf\n", "rte", "expected 2 finite numbers"),
            ("row,prediction,logits\n3,1,0 1\n", "rte", "both a prediction and logits"),
            ("row,prediction\n3,\n", "rte", "neither a prediction nor logits"),
            ("prediction\n1\n", "rte", "no row"),
            ("row,prediction\n-1,1\n", "rte", "row '-1', expected a whole number"),
            ("row,prediction\n1,1\n", "mnli", "dev_set '', expected matched or mismatched"),
            ("row,split,prediction\n1,train,1\n", "rte", "split 'train', expected validation or test"),
            ("task,row,prediction\ncola,1,1\n", "rte", "for task cola, expected rte"),
            ("row,prediction\r\n3,0\r\n4,2\r\n", "rte", "line 3: '2'"),
            ("row,prediction\n3,0\n\n4,2\n", "rte", "line 4: '2'"),
            ("{\"row\": 3,\n", "rte", "line 1: EOF"),
            ("\n{\"row\": 3, \"prediction\": 0}\r\n\n{\"rows\": 4}\n", "rte", "line 4: unknown column 'rows'"),
            ("row,prediction\n", "rte", "holds no prediction"),
        ];
        for (text, name, expected) in wrong {
            let error = parsed(text, name).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    fn given(row: usize) -> GivenPrediction {
        GivenPrediction { split: TEST.into(), dev_set: "dev".into(), row, label: None, value: row as f64 }
    }

    #[test]
    fn every_row_of_the_test_split_is_there_once() {
        let data = datasets::micro::dataset(task("rte")).unwrap();
        let split = split(&data, Policy::Sora);
        let rows: Vec<usize> = split.dev_sets[0].test.iter().map(|row| row.row).collect();
        let mut all: Vec<GivenPrediction> = rows.iter().rev().map(|row| given(*row)).collect();
        let found = fit(&all, &split, task("rte")).unwrap();
        assert_eq!((found.len(), found[0].split, &found[0].rows), (1, TEST, &rows), "in the order of the split");
        assert!(found[0].values.iter().zip(&rows).all(|(value, row)| *value == *row as f64));

        let stranger = split.dev_sets[0].validation[0].row;
        let (gone, doubled) = (all.remove(0).row, all[3].clone());
        all.extend([doubled.clone(), given(stranger)]);
        all[5].label = Some(1.0 - split.dev_sets[0].test.iter().find(|row| row.row == all[5].row).unwrap().label);
        let error = fit(&all, &split, task("rte")).unwrap_err().to_string();
        for part in [
            format!("expected each of its {} rows once, got {} lines", rows.len(), rows.len() + 1),
            format!("1 missing (row {gone})"),
            format!("1 given more than once (row {})", doubled.row),
            format!("1 not of this split (row {stranger})"),
            format!("1 with a label that is not the row's (row {})", all[5].row),
        ] {
            assert!(error.contains(&part), "'{part}' is not in: {error}");
        }
    }

    #[test]
    fn validation_is_whole_or_not_there_and_the_official_set_has_two_names() {
        let data = datasets::micro::dataset(task("rte")).unwrap();
        let halves = split(&data, Policy::Sora);
        let test = || halves.dev_sets[0].test.iter().map(|row| given(row.row));
        let first = GivenPrediction { split: VALIDATION.into(), ..given(halves.dev_sets[0].validation[0].row) };
        let error = fit(&test().chain([first]).collect::<Vec<_>>(), &halves, task("rte")).unwrap_err().to_string();
        assert!(
            error.contains("validation split of dev: expected each of its 64 rows once, got 1 lines: 63 missing"),
            "{error}"
        );
        let official = split(&data, Policy::Official);
        let all: Vec<GivenPrediction> = data.dev[0].1.iter().map(|row| given(row.row)).collect();
        let found = fit(&all, &official, task("rte")).unwrap();
        assert_eq!((found.len(), found[0].split, found[0].rows.len()), (1, VALIDATION, 128));
    }
}
