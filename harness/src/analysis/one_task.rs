//! Results of a group whose runs are all of one task, as a short table of a paper has them.

use std::collections::BTreeSet;

use crate::analysis::columns::TaskColumn;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::paired::{Pair, compare_seeds, reference_pairs};
use crate::analysis::results::GroupResults;
use crate::analysis::stats::{mean, median, sample_std};
use crate::analysis::summary::{MethodRow, Score};

frame_rows! {
    /// One method on the group's one task; the score in points of 100.
    #[derive(Default)]
    pub struct OneTaskRow {
        /// Method.
        method: String,
        /// Difference from the method's first setting; `base` for that.
        label = "variant": String,
        /// Name of method and variant in tables.
        title: String,
        /// Task.
        task: String,
        /// Split policy.
        split: String,
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Metrics that the score is the mean of, joined by `/`.
        metric: String,
        /// Finished seeds.
        seeds: u64,
        /// Mean score over them.
        mean: Option<f64>,
        /// Its sample standard deviation.
        std: Option<f64>,
        /// Trained parameters of the adapter, mean over seeds.
        allocated: Option<f64>,
        /// Parameters left after pruning, mean over seeds.
        effective: Option<f64>,
        /// Percent of the allocated parameters that are left.
        kept = "kept_percent": Option<f64>,
        /// Seconds an epoch: median over seeds; empty where they were made on several devices.
        epoch_seconds: Option<f64>,
        /// LoRA row that it is compared with.
        reference: String,
        /// Two-sided p of the paired t test against it over seeds; with one task there is nothing to correct for.
        p_t: Option<f64>,
    }
}

/// The task of a group's runs and a row for each method; none where they are of several tasks, or none is finished.
pub fn one_task(group: &GroupResults) -> Option<(&TaskColumn, Vec<OneTaskRow>)> {
    let run: BTreeSet<&str> = group.methods.iter().flat_map(|row| row.cells.keys()).map(String::as_str).collect();
    let column = group.columns.iter().find(|column| run.len() == 1 && run.contains(column.name.as_str()))?;
    let pairs = reference_pairs(&group.methods.iter().collect::<Vec<_>>());
    let rows: Vec<OneTaskRow> = group.methods.iter().map(|row| of_method(group, row, column, &pairs)).collect();
    rows.iter().any(|row| row.seeds > 0).then_some((column, rows))
}

fn of_method(group: &GroupResults, row: &MethodRow, column: &TaskColumn, pairs: &[Pair]) -> OneTaskRow {
    let scores: Vec<f64> =
        row.cells.get(&column.name).into_iter().flat_map(|cell| &cell.scores).map(Score::score).collect();
    let [allocated, effective] = [row.mean_count(|run| run.allocated), row.mean_count(|run| run.effective)];
    let pair = pairs.iter().find(|(own, _)| std::ptr::eq(*own, row));
    let test = pair.and_then(|pair| compare_seeds(&group.group, pair, std::slice::from_ref(column)).pop());
    OneTaskRow {
        method: row.method.clone(),
        label: row.label.clone(),
        title: row.title.clone(),
        task: column.name.clone(),
        split: group.group.split.clone(),
        data_source: group.group.data_source.clone(),
        backbone: group.group.backbone.clone(),
        metric: column.parts.iter().map(|(_, metric)| metric.as_str()).collect::<Vec<_>>().join("/"),
        seeds: scores.len() as u64,
        mean: mean(&scores),
        std: sample_std(&scores),
        allocated,
        effective,
        kept: allocated.filter(|n| *n > 0.0).zip(effective).map(|(before, after)| 100.0 * after / before),
        epoch_seconds: epoch_seconds(row),
        reference: test.as_ref().map_or_else(String::new, |test| test.reference.clone()),
        p_t: test.and_then(|test| test.p_t),
    }
}

/// Median over the runs of one device; times of several devices are never put together.
fn epoch_seconds(row: &MethodRow) -> Option<f64> {
    let timed = || row.runs.iter().map(|run| &run.row).filter(|run| run.epoch_seconds.is_some());
    let devices: BTreeSet<(&str, &str)> = timed().map(|run| (run.device.as_str(), run.driver.as_str())).collect();
    let seconds: Vec<f64> = timed().filter_map(|run| run.epoch_seconds).collect();
    (devices.len() == 1).then(|| median(&seconds)).flatten()
}
