//! The baseline check: results of a fixed small recipe against a baseline file.
//!
//! A baseline is a CSV of (task, method, seed, metric, value, tolerance). The meaning of a tolerance depends on the metric:
//! - `<dev set>/<metric>` — points of 1, absolute;
//! - `task_loss` — mean task loss of the last epoch, absolute: it moves when a method stops learning, even where the head
//!   alone still solves the task;
//! - `parameters/<count>` and `collapsed` — exact, tolerance 0;
//! - `epoch_time_ratio` — time a method needs over LoRA's, interleaved; tolerance a factor either way, since machines differ;
//! - `epoch_time_over_product` — LoRA's time over that of a fixed product measured beside it: it moves when everything becomes slower.
//!
//! The check also fails for a row that is missing or new.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::analysis::frame::label::{RunSetting, labels};
use crate::analysis::stats::median;
use crate::error::{Error, Result};
use crate::store::files::write_csv;
use crate::store::record::{RunRecord, Status};
use crate::store::rows::{Outcome, TimingRow};

/// Metric of the time rows.
pub const TIME_RATIO: &str = "epoch_time_ratio";
/// Factor the time ratio may move, either way.
pub const TIME_FACTOR: f64 = 1.6;
/// Metric of LoRA's time over that of a fixed product.
pub const OVER_PRODUCT: &str = "epoch_time_over_product";
/// Factor that ratio may move: another machine has other products.
pub const PRODUCT_FACTOR: f64 = 2.5;
/// Tolerance of the last epoch's task loss: rounding on another machine.
const LOSS_TOLERANCE: f64 = 0.03;
const REFERENCE: &str = "lora";
/// Task of rows that belong to no single task.
const ALL_TASKS: &str = "all";

/// One line of a baseline file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineRow {
    /// Task name, or `all`.
    pub task: String,
    /// Method name, with its setting in brackets where there are several.
    pub method: String,
    /// Seed; empty for rows over all seeds.
    pub seed: Option<u64>,
    /// Number that is compared; see the module's text.
    pub metric: String,
    /// Its value.
    pub value: f64,
    /// Largest change.
    pub tolerance: f64,
}

/// Task, method, seed and metric of a row.
pub type Key = (String, String, Option<u64>, String);

impl BaselineRow {
    fn key(&self) -> Key {
        (self.task.clone(), self.method.clone(), self.seed, self.metric.clone())
    }
}

/// The rows of finished runs and of an interleaved timing. A run that failed has none, so its rows are missing from the
/// comparison.
pub fn baseline_rows(runs: &[RunRecord], timings: &[TimingRow]) -> Vec<BaselineRow> {
    let settings: Vec<RunSetting> = runs.iter().map(RunSetting::of).collect();
    let mut rows: Vec<BaselineRow> = Vec::new();
    for (run, label) in runs.iter().zip(labels(&settings)) {
        if let Status::Done(outcome) = &run.status {
            rows.extend(run_rows(run, &name(run, &label), outcome));
        }
    }
    rows.extend(time_rows(timings));
    rows.sort_by_key(BaselineRow::key);
    rows
}

fn name(run: &RunRecord, label: &str) -> String {
    if label.is_empty() { run.spec.method().to_string() } else { format!("{}[{label}]", run.spec.method()) }
}

fn run_rows(run: &RunRecord, name: &str, outcome: &Outcome) -> Vec<BaselineRow> {
    let row = |metric: String, value: f64, tolerance: f64| BaselineRow {
        task: run.spec.task().to_string(),
        method: name.to_string(),
        seed: Some(run.spec.seed()),
        metric,
        value,
        tolerance,
    };
    let mut rows = Vec::new();
    for result in &outcome.results {
        for (metric, value) in &result.test {
            let tolerance = default_tolerance(metric, result.test_examples);
            rows.push(row(format!("{}/{metric}", result.dev_set), rounded(*value), tolerance));
        }
    }
    if let Some(epoch) = run.epochs.last() {
        rows.push(row("task_loss".into(), rounded(epoch.task_loss), LOSS_TOLERANCE));
    }
    let counts = outcome.parameters.iter().flat_map(|counts| {
        [
            ("allocated", counts.allocated),
            ("effective", counts.effective),
            ("as_published", counts.as_published),
            ("head", counts.head),
        ]
    });
    rows.extend(counts.map(|(count, value)| row(format!("parameters/{count}"), value as f64, 0.0)));
    rows.push(row("collapsed".into(), f64::from(u8::from(!outcome.collapse.is_empty())), 0.0));
    rows
}

/// Tolerance of a metric, for rounding on another machine: three examples of an accuracy, the double of it for the metrics
/// that one example moves further; never below 0.01.
fn default_tolerance(metric: &str, examples: usize) -> f64 {
    let times = if metric == "accuracy" { 3.0 } else { 6.0 };
    rounded((times / examples.max(1) as f64).max(0.01))
}

/// Median over the rounds of a method's time over LoRA's in the same round: methods take turns, so that a busy moment of
/// the machine hits both.
fn time_rows(timings: &[TimingRow]) -> Vec<BaselineRow> {
    let methods: BTreeSet<&str> = timings.iter().map(|row| row.method.as_str()).filter(|m| *m != REFERENCE).collect();
    let mut references: BTreeMap<(&str, usize), f64> = BTreeMap::new();
    for row in timings.iter().filter(|row| row.method == REFERENCE) {
        references.entry((&row.task, row.repeat)).or_insert(row.seconds);
    }
    let reference = |row: &TimingRow| references.get(&(row.task.as_str(), row.repeat)).copied();
    let row = |method: &str| {
        let own = timings.iter().filter(|row| row.method == method);
        let ratios: Vec<f64> = own.filter_map(|row| Some(row.seconds / reference(row)?)).collect();
        Some(BaselineRow {
            task: ALL_TASKS.into(),
            method: method.into(),
            seed: None,
            metric: TIME_RATIO.into(),
            value: rounded(median(&ratios)?),
            tolerance: TIME_FACTOR,
        })
    };
    methods.into_iter().filter_map(row).chain(over_product(timings)).collect()
}

/// Median over the rounds of LoRA's time over that of the product measured before it.
fn over_product(timings: &[TimingRow]) -> Option<BaselineRow> {
    let own = timings.iter().filter(|row| row.method == REFERENCE);
    let ratios: Vec<f64> = own.filter_map(|row| Some(row.seconds / row.product_seconds?)).collect();
    Some(BaselineRow {
        task: ALL_TASKS.into(),
        method: REFERENCE.into(),
        seed: None,
        metric: OVER_PRODUCT.into(),
        value: rounded(median(&ratios)?),
        tolerance: PRODUCT_FACTOR,
    })
}

/// Six decimals: a file that people read, and far below every tolerance.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// One row that failed the check.
#[derive(Debug, Clone, PartialEq)]
pub struct Deviation {
    /// Task, method, seed, metric.
    pub row: Key,
    /// Baseline value; absent for a new row.
    pub was: Option<f64>,
    /// Value now; absent for a missing row.
    pub is: Option<f64>,
    /// Largest change.
    pub tolerance: f64,
}

/// Outcome of a baseline check.
#[derive(Debug, Clone, PartialEq)]
pub struct BaselineReport {
    /// Rows that moved beyond their tolerance, are missing or new.
    pub deviations: Vec<Deviation>,
    /// Rows compared.
    pub compared: usize,
    /// Whether the check passed.
    pub passed: bool,
}

/// Compares `current` with `baseline`; the baseline's tolerances hold.
pub fn compare(baseline: &[BaselineRow], current: &[BaselineRow]) -> BaselineReport {
    let before: BTreeMap<Key, &BaselineRow> = baseline.iter().map(|row| (row.key(), row)).collect();
    let now: BTreeMap<Key, &BaselineRow> = current.iter().map(|row| (row.key(), row)).collect();
    let keys: BTreeSet<&Key> = before.keys().chain(now.keys()).collect();
    let compared = keys.len();
    let deviations: Vec<Deviation> = keys
        .into_iter()
        .filter_map(|key| {
            let (was, is) = (before.get(key), now.get(key));
            let tolerance = was.or(is).map_or(0.0, |row| row.tolerance);
            let (was, is) = (was.map(|row| row.value), is.map(|row| row.value));
            let holds = was.zip(is).is_some_and(|(was, is)| within(&key.3, was, is, tolerance));
            (!holds).then(|| Deviation { row: key.clone(), was, is, tolerance })
        })
        .collect();
    // An empty baseline guards nothing.
    let passed = deviations.is_empty() && compared > 0;
    BaselineReport { deviations, compared, passed }
}

/// A value that is not a number is never within.
fn within(metric: &str, was: f64, is: f64, tolerance: f64) -> bool {
    if is_time(metric) {
        return is <= was * tolerance && is * tolerance >= was;
    }
    // The values were rounded to six decimals.
    (is - was).abs() <= tolerance + 1e-9
}

/// Whether a metric is a ratio of times, whose tolerance is a factor.
pub fn is_time(metric: &str) -> bool {
    [TIME_RATIO, OVER_PRODUCT].contains(&metric)
}

/// Reads a baseline file.
///
/// # Errors
/// The file is missing or not a baseline.
pub fn read(path: &Path) -> Result<Vec<BaselineRow>> {
    let mut reader = csv::Reader::from_path(path)
        .map_err(|e| Error::Input(format!("cannot read the baseline {}: {e}. `--bless` makes one", path.display())))?;
    let rows = reader.deserialize().collect::<std::result::Result<_, _>>();
    rows.map_err(|e| {
        Error::Input(format!("{} is no baseline: {e}. Mend it, or make a new one with `--bless`", path.display()))
    })
}

/// Writes `rows` as the new baseline. Tolerances that were set in an old file by hand stay.
///
/// # Errors
/// The file cannot be written, or an old one cannot be read.
pub fn bless(path: &Path, rows: &[BaselineRow]) -> Result<()> {
    let old = if path.exists() { read(path)? } else { Vec::new() };
    let kept: BTreeMap<Key, f64> = old.iter().map(|row| (row.key(), row.tolerance)).collect();
    let blessed = |row: &BaselineRow| {
        let tolerance = kept.get(&row.key()).copied().unwrap_or(row.tolerance);
        BaselineRow { tolerance, ..row.clone() }
    };
    write_csv(path, &rows.iter().map(blessed).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three rounds of LoRA and SoRA, every epoch `slower` times as long.
    fn timings(slower: f64) -> Vec<TimingRow> {
        let row = |repeat: usize, method: &str, seconds: f64| TimingRow {
            method: method.into(),
            variant: String::new(),
            task: "stsb".into(),
            repeat,
            epoch: 1,
            seconds: seconds * slower,
            phase: String::new(),
            recordings: 0,
            product_seconds: Some(0.01),
            steps: 4,
            tokens: 100,
            operations: None,
            product_rate: None,
            joules: None,
            peak_allocated_mib: None,
            peak_reserved_mib: None,
            peak_resident_mib: Some(100.0),
            allocated: 1,
            effective: 1,
            batch_size: 8,
            length: 16,
            device: "cpu".into(),
            driver: String::new(),
            precision: "fp32".into(),
        };
        (1..=3).flat_map(|repeat| [row(repeat, "lora", 0.2), row(repeat, "sora", 0.21)]).collect()
    }

    #[test]
    fn a_slow_down_of_everything_moves_a_row() {
        let rows = |slower: f64| baseline_rows(&[], &timings(slower));
        assert!(compare(&rows(1.0), &rows(1.5)).passed);
        let report = compare(&rows(1.0), &rows(3.0));
        let moved: Vec<&str> = report.deviations.iter().map(|deviation| deviation.row.3.as_str()).collect();
        assert_eq!(moved, [OVER_PRODUCT], "the ratio of the methods to each other is as before");
    }
}
