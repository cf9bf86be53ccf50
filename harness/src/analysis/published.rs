//! Published numbers, each with its source and status, and the setting it was measured in (spec §5).
//!
//! They live in `results/published/*.csv` and are part of the binary.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::analysis::stats::mean;
use crate::error::{Error, Result};

/// Texts of the published tables by file.
pub const TABLES: [(&str, &str); 2] = [
    ("sora_table1.csv", include_str!("../../../results/published/sora_table1.csv")),
    ("adalora_table1.csv", include_str!("../../../results/published/adalora_table1.csv")),
];
const SETTINGS: &str = include_str!("../../../results/published/settings.csv");
const TRAIN_SETTINGS: &str = include_str!("../../../results/published/train_settings.csv");

/// The eight tasks of the average, in the order of the SoRA paper's Table 1.
pub const TABLE1_TASKS: [&str; 8] = ["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"];

/// Check that a published number went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Read in a copy of the paper.
    Read,
    /// Read in a secondary source.
    SecondHand,
    /// Recalled; in no copy at hand.
    Unverified,
}

impl Status {
    /// Mark behind the number: none, † or ‡.
    pub fn mark(self) -> &'static str {
        match self {
            Status::Read => "",
            Status::SecondHand => "†",
            Status::Unverified => "‡",
        }
    }

    /// Mark behind a number whose status has this name; none behind one without a status.
    pub fn mark_of(name: &str) -> &'static str {
        let known =
            [Status::Read, Status::SecondHand, Status::Unverified].into_iter().find(|known| known.name() == name);
        known.map_or("", Status::mark)
    }

    /// Name in files.
    pub fn name(self) -> &'static str {
        match self {
            Status::Read => "read",
            Status::SecondHand => "second-hand",
            Status::Unverified => "unverified",
        }
    }
}

/// One published number.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Number {
    /// Table it belongs to: `sora_table1` or `adalora_table1`.
    pub table: String,
    /// Method name as in the registry, e.g. `sora`.
    pub method: String,
    /// Row label, e.g. `SoRA r_max=8`.
    pub label: String,
    /// Parameters in millions, as published.
    pub params_millions: f64,
    /// Task name; `average` for the printed average.
    pub task: String,
    /// Metric; for MNLI the development set.
    pub metric: String,
    /// Value in points of 100.
    pub value: f64,
    /// Check it went through.
    pub status: Status,
    /// Where it was found.
    pub source: String,
}

/// The setting a published row was measured in.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Table.
    pub table: String,
    /// Row label.
    pub label: String,
    /// Backbone.
    pub backbone: String,
    /// Data source.
    pub data_source: String,
    /// Split policy: `sora`, `official`, or `unknown`.
    pub split: String,
    /// Runs that each number is the mean of; absent where it is not stated.
    pub runs: Option<usize>,
    /// Number format; empty where it is not stated.
    pub precision: String,
    /// Whether the head was trained, `true` or `false`; empty where it is not stated.
    pub train_head: String,
    /// How the vocabulary was read; empty where it is not stated.
    pub tokenizer: String,
    /// Options of the method that make it this row, `key=value` joined by blanks.
    pub options: String,
    /// Why the row cannot be compared, if so.
    pub caveat: String,
}

/// Training protocol of a published row on one task; what is not stated is absent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSetting {
    /// Table.
    pub table: String,
    /// Row label.
    pub label: String,
    /// Task.
    pub task: String,
    /// Passes over the training rows.
    pub epochs: Option<f64>,
    /// Rows of one step.
    pub batch_size: Option<f64>,
    /// Peak learning rate.
    pub lr: Option<f64>,
    /// Options of the method, `key=value` joined by blanks.
    pub options: String,
    /// Where it was found.
    pub source: String,
}

/// One row of a published table.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedRow {
    /// Its setting; absent where it is not known.
    pub setting: Option<Setting>,
    /// Its training protocol, task by task, as far as it is stated.
    pub train: Vec<TrainSetting>,
    /// Its numbers, at least one.
    pub numbers: Vec<Number>,
}

impl PublishedRow {
    /// Row label.
    pub fn label(&self) -> &str {
        self.numbers.first().map_or("", |n| n.label.as_str())
    }

    /// Method name.
    pub fn method(&self) -> &str {
        self.numbers.first().map_or("", |n| n.method.as_str())
    }

    /// Table name.
    pub fn table(&self) -> &str {
        self.numbers.first().map_or("", |n| n.table.as_str())
    }

    /// Parameters in millions, as published.
    pub fn params_millions(&self) -> Option<f64> {
        self.numbers.first().map(|n| n.params_millions)
    }

    /// Numbers of a task in the order printed (QQP: Acc, F1; MNLI: m, mm).
    pub fn task(&self, task: &str) -> Vec<&Number> {
        self.numbers.iter().filter(|n| n.task == task).collect()
    }
}

/// Mean over the eight tasks after averaging m/mm and Acc/F1 inside MNLI and QQP (spec §4.3); `None` unless all are there.
pub fn average(task_scores: &[Option<f64>]) -> Option<f64> {
    let scores: Vec<f64> = task_scores.iter().flatten().copied().collect();
    if scores.len() < TABLE1_TASKS.len() { None } else { mean(&scores) }
}

/// Every published row, in the order of the files.
///
/// # Errors
/// A bug only: the files are part of the binary and tested.
pub fn load() -> Result<Vec<PublishedRow>> {
    let settings = settings()?;
    let train_settings: Vec<TrainSetting> = parse("train_settings.csv", TRAIN_SETTINGS)?;
    let mut order: Vec<(String, String)> = Vec::new();
    let mut rows: BTreeMap<(String, String), Vec<Number>> = BTreeMap::new();
    for (file, text) in TABLES {
        for number in parse::<Number>(file, text)? {
            let key = (number.table.clone(), number.label.clone());
            if !rows.contains_key(&key) {
                order.push(key.clone());
            }
            rows.entry(key).or_default().push(number);
        }
    }
    let build = |key: (String, String)| {
        let setting = settings.iter().find(|s| s.table == key.0 && s.label == key.1).cloned();
        let train = train_settings.iter().filter(|s| s.table == key.0 && s.label == key.1).cloned().collect();
        PublishedRow { setting, train, numbers: rows.remove(&key).unwrap_or_default() }
    };
    Ok(order.into_iter().map(build).collect())
}

/// Settings of the published rows, as far as they are known.
///
/// # Errors
/// As [`load`].
pub fn settings() -> Result<Vec<Setting>> {
    parse("settings.csv", SETTINGS)
}

/// Published row of a method row: of the table measured on the same kind of split, the one whose options ours has, else the
/// first of the method.
pub fn published_row<'a>(
    rows: &'a [PublishedRow],
    method: &str,
    split: &str,
    options: &str,
) -> Option<&'a PublishedRow> {
    let table = if is_official(split) { "adalora_table1" } else { "sora_table1" };
    let of_method =
        |in_table: bool| rows.iter().filter(move |r| r.method() == method && (r.table() == table) == in_table);
    let matching = |row: &&PublishedRow| row.setting.as_ref().is_some_and(|s| has_options(options, &s.options));
    of_method(true).find(matching).or_else(|| of_method(true).next()).or_else(|| of_method(false).next())
}

/// Whether a split policy's name is the official development set's.
pub fn is_official(split: &str) -> bool {
    split.starts_with("official")
}

/// Whether `ours` (`key=value …`) holds every pair of `wanted`.
fn has_options(ours: &str, wanted: &str) -> bool {
    wanted.split_whitespace().all(|pair| ours.split_whitespace().any(|own| own == pair))
}

/// Rows of a published file, which is part of the binary.
///
/// # Errors
/// As [`load`].
pub fn parse<T: for<'de> Deserialize<'de>>(file: &str, text: &str) -> Result<Vec<T>> {
    let bad = |e: csv::Error| Error::Internal(format!("results/published/{file}: {e}"));
    csv::Reader::from_reader(text.as_bytes()).deserialize().collect::<std::result::Result<_, _>>().map_err(bad)
}
