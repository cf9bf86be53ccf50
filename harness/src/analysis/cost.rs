//! Cost of the training runs as they saw it themselves: a first look, not a measurement.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::frame::group::ReportGroup;
use crate::analysis::frame::rows::RunRow;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::results::GroupResults;
use crate::analysis::stats::{mean, median};
use crate::analysis::summary::MethodRow;
use crate::store::rows::Seconds;

const REFERENCE: &str = "adalora";

frame_rows! {
    /// One row on one device: times and memory of different devices are never put together.
    pub struct CostRow {
        /// Method.
        method: String,
        /// Difference from the method's first setting; `base` for that.
        label = "variant": String,
        /// Name of method and variant in tables.
        title: String,
        /// Split policy.
        split: String,
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Device in words.
        device: String,
        /// GPU driver.
        driver: String,
        /// Number formats.
        precisions: String,
        /// Runs with at least one epoch.
        runs: u64,
        /// Seconds an epoch: sum over the common tasks of the median over runs.
        seconds: Option<f64>,
        /// Ratio to AdaLoRA on the same device: median over tasks.
        ratio: Option<f64>,
        /// Tokens (padding not counted) a second: median over runs.
        tokens_per_second: Option<f64>,
        /// Largest peak of allocated memory in MiB, of runs that were trained alone.
        peak_allocated_mib: Option<f64>,
        /// Likewise of reserved memory.
        peak_reserved_mib: Option<f64>,
        /// Likewise of the process's resident set.
        peak_resident_mib: Option<f64>,
        /// Mean wall seconds of a run.
        wall_seconds: Option<f64>,
        /// Mean seconds of reading the backbone.
        loading_seconds: Option<f64>,
        /// Of reading and tokenising rows.
        tokenising_seconds: Option<f64>,
        /// Of recording steps.
        recording_seconds: Option<f64>,
        /// Of training steps.
        training_seconds: Option<f64>,
        /// Of evaluation.
        evaluation_seconds: Option<f64>,
        /// Of writing adapter and predictions.
        export_seconds: Option<f64>,
        /// The rest.
        other_seconds: Option<f64>,
        /// Allocated parameters, mean over runs.
        allocated: Option<f64>,
        /// Effective parameters, mean over runs.
        effective: Option<f64>,
    }
}

/// Runs of one method row on one device.
struct OnDevice<'a> {
    row: &'a MethodRow,
    device: (&'a str, &'a str),
    runs: Vec<&'a RunRow>,
    /// Median seconds an epoch of each task.
    tasks: BTreeMap<&'a str, f64>,
}

/// Cost of a group's runs: the tasks that every row on every device has, and a row each; `None` without such a task.
pub fn cost(group: &GroupResults) -> Option<(Vec<String>, Vec<CostRow>)> {
    let all: Vec<OnDevice> = group.methods.iter().flat_map(by_device).collect();
    let common = common_tasks(&all);
    if common.is_empty() {
        return None;
    }
    // The base row of AdaLoRA on each device.
    let mut references: BTreeMap<(&str, &str), &OnDevice> = BTreeMap::new();
    for own in all.iter().filter(|own| own.row.method == REFERENCE) {
        references.entry(own.device).or_insert(own);
    }
    let row = |own: &OnDevice| cost_row(&group.group, own, references.get(&own.device).copied(), &common);
    let rows = all.iter().map(row).collect();
    Some((common.into_iter().map(str::to_string).collect(), rows))
}

impl CostRow {
    /// Parts of the wall time that are at least one percent of it, in percent; `None` without a wall time.
    pub fn shares(&self) -> Option<Vec<(&'static str, f64)>> {
        let wall = self.wall_seconds.filter(|wall| *wall > 0.0)?;
        let seconds = Seconds {
            loading: self.loading_seconds.unwrap_or(0.0),
            tokenising: self.tokenising_seconds.unwrap_or(0.0),
            recording: self.recording_seconds.unwrap_or(0.0),
            training: self.training_seconds.unwrap_or(0.0),
            evaluation: self.evaluation_seconds.unwrap_or(0.0),
            export: self.export_seconds.unwrap_or(0.0),
            other: self.other_seconds.unwrap_or(0.0),
        };
        let shares = seconds.parts().into_iter().map(|(name, seconds)| (name, 100.0 * seconds / wall));
        Some(shares.filter(|(_, percent)| *percent >= 1.0).collect())
    }
}

fn by_device(row: &MethodRow) -> Vec<OnDevice<'_>> {
    let mut devices: BTreeMap<(&str, &str), Vec<&RunRow>> = BTreeMap::new();
    for run in row.runs.iter().map(|run| &run.row).filter(|run| run.epoch_seconds.is_some()) {
        devices.entry((&run.device, &run.driver)).or_default().push(run);
    }
    devices.into_iter().map(|(device, runs)| OnDevice { row, device, tasks: task_seconds(&runs), runs }).collect()
}

fn task_seconds<'a>(runs: &[&'a RunRow]) -> BTreeMap<&'a str, f64> {
    let mut seconds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for run in runs {
        seconds.entry(&run.task).or_default().extend(run.epoch_seconds);
    }
    seconds.into_iter().filter_map(|(task, values)| Some((task, median(&values)?))).collect()
}

fn common_tasks<'a>(groups: &[OnDevice<'a>]) -> Vec<&'a str> {
    let Some(first) = groups.first() else { return Vec::new() };
    first.tasks.keys().copied().filter(|task| groups.iter().all(|group| group.tasks.contains_key(task))).collect()
}

fn cost_row(group: &ReportGroup, own: &OnDevice, reference: Option<&OnDevice>, common: &[&str]) -> CostRow {
    let ratio = |task: &&str| Some(own.tasks.get(*task)? / reference?.tasks.get(*task)?);
    let ratios: Vec<f64> = common.iter().filter_map(ratio).collect();
    let over_runs = |of: fn(&RunRow) -> Option<f64>| own.runs.iter().filter_map(|run| of(run)).collect::<Vec<f64>>();
    let alone = |of: fn(&RunRow) -> Option<f64>| {
        let runs = own.runs.iter().filter(|run| run.together.unwrap_or(1) == 1);
        runs.filter_map(|run| of(run)).max_by(f64::total_cmp)
    };
    let counted = |of: fn(&RunRow) -> Option<i64>| {
        mean(&own.runs.iter().filter_map(|run| of(run).map(|n| n as f64)).collect::<Vec<_>>())
    };
    let seconds: Option<Vec<f64>> = common.iter().map(|task| own.tasks.get(task).copied()).collect();
    let precisions: BTreeSet<&str> = own.runs.iter().map(|run| run.precision.as_str()).collect();
    CostRow {
        data_source: group.data_source.clone(),
        backbone: group.backbone.clone(),
        split: group.split.clone(),
        method: own.row.method.clone(),
        label: own.row.label.clone(),
        title: own.row.title.clone(),
        device: own.device.0.into(),
        driver: own.device.1.into(),
        precisions: precisions.into_iter().collect::<Vec<_>>().join("; "),
        runs: own.runs.len() as u64,
        seconds: seconds.map(|s| s.iter().sum()),
        ratio: median(&ratios),
        tokens_per_second: median(&over_runs(|run| run.tokens_per_second)),
        peak_allocated_mib: alone(|run| run.peak_allocated_mib),
        peak_reserved_mib: alone(|run| run.peak_reserved_mib),
        peak_resident_mib: alone(|run| run.peak_resident_mib),
        wall_seconds: mean(&over_runs(|run| run.wall_seconds)),
        loading_seconds: mean(&over_runs(|run| run.loading_seconds)),
        tokenising_seconds: mean(&over_runs(|run| run.tokenising_seconds)),
        recording_seconds: mean(&over_runs(|run| run.recording_seconds)),
        training_seconds: mean(&over_runs(|run| run.training_seconds)),
        evaluation_seconds: mean(&over_runs(|run| run.evaluation_seconds)),
        export_seconds: mean(&over_runs(|run| run.export_seconds)),
        other_seconds: mean(&over_runs(|run| run.other_seconds)),
        allocated: counted(|run| run.allocated),
        effective: counted(|run| run.effective),
    }
}
