//! A user's own task from a TOML file, so that a task needs no code (docs/own_task.md).

use std::path::Path;

use sha2::{Digest, Sha256};
use toml::{Table, Value};

use crate::error::{Error, Result, nearest, nearest_suffix};
use crate::metrics::Metric;
use crate::task::{Column, FileFormat, Labels, SetSpec, SizeClass, Source, Task, TaskFile};
use crate::tasks;

/// Every key of a file.
const KEYS: [&str; 13] = [
    "name",
    "title",
    "text",
    "label",
    "labels",
    "range",
    "metrics",
    "selection",
    "max_length",
    "split",
    "format",
    "columns",
    "files",
];
/// Keys of `[files]`, which are also the names of the sets.
const SETS: [&str; 2] = ["train", "dev"];
const FORMATS: [&str; 3] = ["tsv", "jsonl", "parquet"];
const SPLITS: [&str; 2] = ["small", "large"];
/// Shortest input that holds two texts and their special tokens.
const SHORTEST: i64 = 4;
/// Longest name: it is part of every run's id.
const LONGEST_NAME: usize = 32;
/// A task that stands for all of them in tables.
const ALL: &str = "all";

/// Reads a task from its file and adds it to the tasks that [`tasks::find`] knows. It is kept for the rest of the
/// process.
///
/// # Errors
/// [`Error::TaskFile`] for a file that cannot be read, a key that is unknown, missing or wrong, and a name that another
/// task has.
pub fn read(path: &Path) -> Result<&'static Task> {
    let fault = |detail: String, help: &str| Error::TaskFile { path: path.into(), detail, help: help.into() };
    let text = std::fs::read_to_string(path).map_err(|e| fault(format!("it cannot be read: {e}"), ""))?;
    let table: Table = toml::from_str(&text).map_err(|e| fault(e.to_string(), ""))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let file = TaskFile {
        path: leaked(&path.display().to_string()),
        folder: leaked(&folder.display().to_string()),
        sha256: leaked(&hex::encode(Sha256::digest(&text))),
    };
    let task =
        task(&Keys { table: &table, within: "" }, file).map_err(|Fault { detail, help }| fault(detail, &help))?;
    tasks::add(Box::leak(Box::new(task))).map_err(|detail| fault(detail, "Choose another name"))
}

/// Reason why a file is no task.
struct Fault {
    detail: String,
    help: String,
}

type Parsed<T> = std::result::Result<T, Fault>;

fn fault<T>(detail: impl Into<String>, help: impl Into<String>) -> Parsed<T> {
    Err(Fault { detail: detail.into(), help: help.into() })
}

fn task(keys: &Keys, file: TaskFile) -> Parsed<Task> {
    keys.known(&KEYS)?;
    let name = name(keys.text("name")?)?;
    let title = keys.optional_text("title")?.unwrap_or(name);
    if title.is_empty() || title.chars().any(char::is_control) {
        return fault(format!("title is {title:?}, expected a line of text"), "");
    }
    let labels = labels(keys)?;
    let metrics = metrics(keys, labels)?;
    let selection = match keys.optional_text("selection")? {
        None => metrics[0],
        Some(name) => one_of("selection", name, metrics.iter().map(|metric| (metric.name(), *metric)))?,
    };
    let rules = [SizeClass::Small, SizeClass::Large];
    let split_rule = one_of("split", keys.text("split")?, SPLITS.into_iter().zip(rules))?;
    let max_length = keys.integer("max_length")?;
    if max_length < SHORTEST {
        return fault(format!("max_length is {max_length}, expected {SHORTEST} or more"), "");
    }
    Ok(Task {
        name: leaked(name),
        title: leaked(title),
        labels,
        sets: &[SetSpec { name: SETS[0], rows: None }, SetSpec { name: SETS[1], rows: None }],
        sources: Box::leak(Box::new([source(keys)?])),
        metrics,
        selection,
        reported: metrics,
        split_rule,
        max_length: max_length as usize,
        file: Some(file),
    })
}

/// The name is part of run ids and file names.
fn name(name: &str) -> Parsed<&str> {
    let is_plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    match is_plain && begins && name.len() <= LONGEST_NAME && name != ALL {
        true => Ok(name),
        false => fault(
            format!("name is '{name}', expected a lower-case letter, then letters, digits and _"),
            format!("It is part of every run's name: at most {LONGEST_NAME} characters, and not '{ALL}'"),
        ),
    }
}

fn labels(keys: &Keys) -> Parsed<Labels> {
    match (keys.table.get("labels"), keys.table.get("range")) {
        (Some(_), Some(_)) => fault("it has both labels and range", "A task has classes (labels) or a score (range)"),
        (None, None) => fault(
            "it has neither labels nor range",
            "labels = [\"no\", \"yes\"] names classes, range = [0, 5] bounds a score",
        ),
        (Some(_), None) => {
            let names = keys.texts("labels")?;
            let is_twice = (1..names.len()).any(|at| names[..at].contains(&names[at]));
            if names.len() < 2 || is_twice || names.iter().any(|name| name.is_empty()) {
                return fault(format!("labels is [{}], expected two or more different names", names.join(", ")), "");
            }
            Ok(Labels::Classes(Box::leak(names.into_iter().map(leaked).collect())))
        }
        (None, Some(range)) => {
            let number = |value: &Value| value.as_float().or(value.as_integer().map(|number| number as f64));
            let bounds: Option<Vec<f64>> = range.as_array().and_then(|range| range.iter().map(number).collect());
            match bounds.as_deref() {
                Some(&[low, high]) if low.is_finite() && high.is_finite() && low < high => Ok(Labels::Score(low, high)),
                _ => fault(format!("range is {range}, expected two numbers, the smaller one first"), ""),
            }
        }
    }
}

/// Metrics that can be computed for the labels; the first one selects the checkpoint where the file names no other.
fn metrics(keys: &Keys, labels: Labels) -> Parsed<&'static [Metric]> {
    let fitting: &[Metric] = match labels {
        Labels::Classes([_, _]) => &[Metric::Accuracy, Metric::F1, Metric::Matthews],
        Labels::Classes(_) => &[Metric::Accuracy, Metric::Matthews],
        Labels::Score(..) => &[Metric::Pearson, Metric::Spearman],
    };
    let mut metrics = Vec::new();
    for name in keys.texts("metrics")? {
        let metric = one_of("metrics", name, fitting.iter().map(|metric| (metric.name(), *metric)))?;
        if metrics.contains(&metric) {
            return fault(format!("metrics names {name} twice"), "");
        }
        metrics.push(metric);
    }
    match metrics.is_empty() {
        true => fault("metrics is empty, expected one or more", ""),
        false => Ok(Box::leak(metrics.into_boxed_slice())),
    }
}

fn source(keys: &Keys) -> Parsed<Source> {
    let columns = match keys.table.contains_key("columns") {
        true => Some(keys.integer("columns")?),
        false => None,
    };
    let formats = [FileFormat::Tsv { columns: None, skip_incomplete: false }, FileFormat::Jsonl, FileFormat::Parquet];
    let format = match (one_of("format", keys.text("format")?, FORMATS.into_iter().zip(formats))?, columns) {
        (FileFormat::Tsv { skip_incomplete, .. }, Some(count @ 2..)) => {
            FileFormat::Tsv { columns: Some(count as usize), skip_incomplete }
        }
        (FileFormat::Tsv { .. }, Some(count)) => return fault(format!("columns is {count}, expected 2 or more"), ""),
        (other, Some(_)) => {
            return fault(
                format!("columns is of no use for {}", other.name()),
                "It is the width of a TSV file without a header",
            );
        }
        (format, None) => format,
    };
    let given = match keys.table.get("text") {
        Some(Value::Array(columns)) => columns.iter().collect(),
        Some(one) => vec![one],
        None => return keys.missing("text"),
    };
    let text = given.into_iter().map(|value| column("text", value, format)).collect::<Parsed<Vec<Column>>>()?;
    let Some(label) = keys.table.get("label") else { return keys.missing("label") };
    let label = column("label", label, format)?;
    if !(1..=2).contains(&text.len()) {
        return fault(format!("text names {} columns, expected one or two", text.len()), "");
    }
    if text.contains(&label) || text.first() == text.get(1) {
        return fault("text and label name one column twice", "");
    }
    Ok(Source { format, repository: None, files: files(keys)?, text: Box::leak(text.into_boxed_slice()), label })
}

fn column(key: &str, value: &Value, format: FileFormat) -> Parsed<Column> {
    let width = match format {
        FileFormat::Tsv { columns, .. } => columns,
        _ => None,
    };
    match (value, width) {
        (Value::String(name), None) if !name.is_empty() => Ok(Column::Named(leaked(name))),
        (Value::Integer(at), Some(width)) if usize::try_from(*at).is_ok_and(|at| at < width) => {
            Ok(Column::At(*at as usize))
        }
        (_, None) => fault(
            format!("{key} names the column {value}, expected a name"),
            "A TSV file without a header line needs columns = N, and positions from 0",
        ),
        (_, Some(width)) => fault(
            format!("{key} names the column {value}, expected a position from 0 to {}", width - 1),
            "Without columns = N the first line names the columns",
        ),
    }
}

fn files(keys: &Keys) -> Parsed<&'static [&'static str]> {
    let files = match keys.table.get("files") {
        Some(Value::Table(files)) => Keys { table: files, within: "files." },
        Some(other) => return fault(format!("files is {other}, expected a table"), "[files] holds train and dev"),
        None => return keys.missing("files"),
    };
    files.known(&SETS)?;
    let paths = SETS.map(|set| files.text(set).map(leaked));
    Ok(Box::leak(paths.into_iter().collect::<Parsed<Vec<&str>>>()?.into_boxed_slice()))
}

/// A table of the file, and how its keys begin in messages.
struct Keys<'a> {
    table: &'a Table,
    within: &'a str,
}

impl<'a> Keys<'a> {
    fn known(&self, known: &[&str]) -> Parsed<()> {
        let Some(key) = self.table.keys().find(|key| !known.contains(&key.as_str())) else { return Ok(()) };
        let hint = nearest_suffix(nearest(key, known.iter().copied()));
        fault(format!("unknown key '{}{key}'{hint}; known: {}", self.within, known.join(", ")), "")
    }

    fn missing<T>(&self, key: &str) -> Parsed<T> {
        fault(format!("the key '{}{key}' is missing", self.within), "")
    }

    fn wrong<T>(&self, key: &str, value: &Value, expected: &str) -> Parsed<T> {
        fault(format!("{}{key} is {value}, expected {expected}", self.within), "")
    }

    fn optional_text(&self, key: &str) -> Parsed<Option<&'a str>> {
        match self.table.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => self.wrong(key, other, "a text"),
        }
    }

    fn text(&self, key: &str) -> Parsed<&'a str> {
        self.optional_text(key)?.map_or_else(|| self.missing(key), Ok)
    }

    fn texts(&self, key: &str) -> Parsed<Vec<&'a str>> {
        match self.table.get(key) {
            None => self.missing(key),
            Some(value) => match value.as_array().and_then(|list| list.iter().map(Value::as_str).collect()) {
                Some(texts) => Ok(texts),
                None => self.wrong(key, value, "a list of texts"),
            },
        }
    }

    fn integer(&self, key: &str) -> Parsed<i64> {
        match self.table.get(key) {
            None => self.missing(key),
            Some(Value::Integer(number)) => Ok(*number),
            Some(other) => self.wrong(key, other, "a whole number"),
        }
    }
}

/// The value of a name, or the nearest name.
fn one_of<T>(key: &str, name: &str, known: impl IntoIterator<Item = (&'static str, T)>) -> Parsed<T> {
    let mut names = Vec::new();
    for (known, value) in known {
        if known == name {
            return Ok(value);
        }
        names.push(known);
    }
    let hint = nearest_suffix(nearest(name, names.iter().copied()));
    fault(format!("{key} is '{name}'{hint}, expected one of {}", names.join(", ")), "")
}

/// Text that lives as long as the process, as a task does.
fn leaked(text: &str) -> &'static str {
    Box::leak(text.to_string().into_boxed_str())
}
