//! Cost of the training runs as they saw it themselves: a first look, not a measurement.

use std::collections::BTreeMap;

use crate::analysis::columns::task_columns;
use crate::analysis::frame::group::Protocol;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::frame::{Collected, ResultRow};
use crate::analysis::stats::{mean, median};
use crate::analysis::summary::{MethodRow, summarise};
use crate::error::Result;
use crate::report::tables::efficiency::claim;
use crate::report::tables::{GridRow, Needs, Rendered, Table, count};
use crate::store::rows::Seconds;

const REFERENCE: &str = "adalora";

/// Cost as the training runs saw it.
pub struct RunTimes;

frame_rows! {
    /// One row on one device: times and memory of different devices are never put together.
    pub struct Line {
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Split policy.
        split: String,
        /// Row, with its setting where it is not the base row.
        method: String,
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
    runs: Vec<&'a ResultRow>,
    /// Median seconds an epoch of each task.
    tasks: BTreeMap<&'a str, f64>,
}

impl Table for RunTimes {
    fn name(&self) -> &'static str {
        "run_times"
    }

    fn title(&self) -> &'static str {
        "Cost of the training runs"
    }

    fn needs(&self) -> Needs {
        Needs::Runs
    }

    fn build(&self, collected: &Collected) -> Result<Option<Rendered>> {
        let results = collected.results()?;
        let Some(first) = results.first() else { return Ok(None) };
        let protocol = Protocol::of(first);
        let rows = summarise(&results, &task_columns(&results));
        let groups: Vec<OnDevice> = rows.iter().flat_map(by_device).collect();
        let common = common_tasks(&groups);
        if common.is_empty() {
            return Ok(None);
        }
        let lines: Vec<Line> =
            groups.iter().map(|group| line(&protocol, group, reference(group, &groups), &common)).collect();
        Ok(Some(Rendered {
            title: format!("{}: {} (not interleaved; see `just efficiency`)", self.title(), protocol.title()),
            header: header(common.len()),
            rows: lines.iter().map(grid_row).collect(),
            notes: notes(&common, collected),
            data: crate::analysis::frame::frame(&lines)?,
        }))
    }
}

fn by_device(row: &MethodRow) -> Vec<OnDevice<'_>> {
    let mut devices: BTreeMap<(&str, &str), Vec<&ResultRow>> = BTreeMap::new();
    for run in row.runs.iter().filter(|run| run.epoch_seconds.is_some()) {
        devices.entry((&run.device, &run.driver)).or_default().push(run);
    }
    devices.into_iter().map(|(device, runs)| OnDevice { row, device, tasks: task_seconds(&runs), runs }).collect()
}

fn task_seconds<'a>(runs: &[&'a ResultRow]) -> BTreeMap<&'a str, f64> {
    let mut seconds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for run in runs {
        seconds.entry(&run.task).or_default().extend(run.epoch_seconds);
    }
    seconds.into_iter().filter_map(|(task, values)| Some((task, median(&values)?))).collect()
}

/// The base row of AdaLoRA on the same device.
fn reference<'a>(group: &OnDevice, groups: &'a [OnDevice<'a>]) -> Option<&'a OnDevice<'a>> {
    groups.iter().find(|other| other.row.method == REFERENCE && other.device == group.device)
}

fn common_tasks<'a>(groups: &[OnDevice<'a>]) -> Vec<&'a str> {
    let Some(first) = groups.first() else { return Vec::new() };
    first.tasks.keys().copied().filter(|task| groups.iter().all(|group| group.tasks.contains_key(task))).collect()
}

fn line(protocol: &Protocol, group: &OnDevice, reference: Option<&OnDevice>, common: &[&str]) -> Line {
    let ratio = |task: &&str| Some(group.tasks.get(*task)? / reference?.tasks.get(*task)?);
    let ratios: Vec<f64> = common.iter().filter_map(ratio).collect();
    let over_runs =
        |of: fn(&ResultRow) -> Option<f64>| group.runs.iter().filter_map(|run| of(run)).collect::<Vec<f64>>();
    let alone = |of: fn(&ResultRow) -> Option<f64>| {
        let runs = group.runs.iter().filter(|run| run.together.unwrap_or(1) == 1);
        runs.filter_map(|run| of(run)).max_by(f64::total_cmp)
    };
    let counted = |of: fn(&ResultRow) -> Option<i64>| {
        mean(&group.runs.iter().filter_map(|run| of(run).map(|n| n as f64)).collect::<Vec<_>>())
    };
    let seconds: Option<Vec<f64>> = common.iter().map(|task| group.tasks.get(task).copied()).collect();
    let precisions: std::collections::BTreeSet<&str> = group.runs.iter().map(|run| run.precision.as_str()).collect();
    Line {
        data_source: protocol.data_source.clone(),
        backbone: protocol.backbone.clone(),
        split: protocol.split.clone(),
        method: group.row.title.clone(),
        device: group.device.0.into(),
        driver: group.device.1.into(),
        precisions: precisions.into_iter().collect::<Vec<_>>().join("; "),
        runs: group.runs.len() as u64,
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

fn header(tasks: usize) -> Vec<String> {
    let seconds = if tasks == 1 { "s/epoch".to_string() } else { format!("s/epoch, {tasks} tasks") };
    let rest = ["Ratio to AdaLoRA", "Tokens/s", "Peak MiB", "Wall s a run", "Of it", "Allocated", "Effective"];
    let first = ["Method", "Device", "Runs"].map(str::to_string);
    first.into_iter().chain([seconds]).chain(rest.map(str::to_string)).collect()
}

fn grid_row(line: &Line) -> GridRow {
    let fixed = |value: Option<f64>, digits: usize| value.map_or("–".to_string(), |v| format!("{v:.digits$}"));
    let counted = |value: Option<f64>| value.map_or("–".to_string(), count);
    let cells = vec![
        line.method.clone(),
        line.device.clone(),
        line.runs.to_string(),
        fixed(line.seconds, 2),
        fixed(line.ratio, 2),
        fixed(line.tokens_per_second, 0),
        peak([line.peak_allocated_mib, line.peak_reserved_mib, line.peak_resident_mib]),
        fixed(line.wall_seconds, 1),
        parts(line),
        counted(line.allocated),
        counted(line.effective),
    ];
    GridRow { cells, sub: false }
}

/// Peak memory in words: `1,602 allocated, 1,680 reserved`, or the resident set.
pub fn peak([allocated, reserved, resident]: [Option<f64>; 3]) -> String {
    match (allocated, reserved, resident) {
        (Some(allocated), Some(reserved), _) => format!("{allocated:.0} allocated, {reserved:.0} reserved"),
        (_, _, Some(resident)) => format!("{resident:.0} resident"),
        _ => "–".into(),
    }
}

/// Shares of the wall time, those of at least one percent.
fn parts(line: &Line) -> String {
    let seconds = Seconds {
        loading: line.loading_seconds.unwrap_or(0.0),
        tokenising: line.tokenising_seconds.unwrap_or(0.0),
        recording: line.recording_seconds.unwrap_or(0.0),
        training: line.training_seconds.unwrap_or(0.0),
        evaluation: line.evaluation_seconds.unwrap_or(0.0),
        export: line.export_seconds.unwrap_or(0.0),
        other: line.other_seconds.unwrap_or(0.0),
    };
    let Some(wall) = line.wall_seconds.filter(|wall| *wall > 0.0) else { return "–".into() };
    let share = |(name, seconds): (&str, f64)| {
        let percent = 100.0 * seconds / wall;
        (percent >= 1.0).then(|| format!("{name} {percent:.0} %"))
    };
    seconds.parts().into_iter().filter_map(share).collect::<Vec<_>>().join(", ")
}

fn notes(common: &[&str], collected: &Collected) -> Vec<String> {
    let mut notes = vec![
        format!(
            "Seconds an epoch: sum over {} of the median over runs; ratio: median over those tasks, on the same device. Evaluation and \
             checkpointing are excluded, warm-up and recording are not, and the methods did not take turns.",
            common.join(", ")
        ),
        "Peak memory: of a run that was trained alone, from its start to its end. Wall time: everything, an equal share for runs side by \
         side; what several runs use (backbone, rows) is counted in the first of them."
            .into(),
    ];
    notes.extend(claim(&collected.timings, &collected.peers));
    notes
}
