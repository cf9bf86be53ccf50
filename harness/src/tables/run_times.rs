//! What the training runs themselves say about cost: a first look, not a measurement.

use std::collections::BTreeMap;

use super::columns::task_columns;
use super::efficiency::CLAIM;
use super::summary::{MethodRow, summarise};
use super::{GridRow, Needs, Rendered, Table, count};
use crate::error::Result;
use crate::frame::label::Protocol;
use crate::frame::typed::frame_rows;
use crate::frame::{Collected, ResultRow};
use crate::stats::median;

const REFERENCE: &str = "adalora";

/// Cost as the training runs saw it.
pub struct RunTimes;

frame_rows! {
    /// One method.
    pub struct Line {
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Split policy.
        split: String,
        /// Method, with its setting where there are several.
        method: String,
        /// Runs with at least one epoch.
        runs: u64,
        /// Seconds an epoch: sum over the common tasks of the median over runs.
        seconds: Option<f64>,
        /// Ratio to AdaLoRA: median over tasks.
        ratio: Option<f64>,
        /// Tokens (padding not counted) a second: median over runs.
        tokens_per_second: Option<f64>,
        /// Largest peak memory in MiB.
        peak_memory_mib: Option<f64>,
        /// Allocated parameters, mean over runs.
        allocated: Option<f64>,
        /// Effective parameters, mean over runs.
        effective: Option<f64>,
    }
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
        let times: Vec<BTreeMap<&str, f64>> = rows.iter().map(task_seconds).collect();
        let common: Vec<&str> = common_tasks(&times);
        if common.is_empty() {
            return Ok(None);
        }
        let reference = rows.iter().position(|row| row.method == REFERENCE).map(|index| &times[index]);
        let lines: Vec<Line> =
            rows.iter().zip(&times).map(|(row, own)| line(&protocol, row, own, reference, &common)).collect();
        Ok(Some(Rendered {
            title: format!("{}: {} (not interleaved; see `just efficiency`)", self.title(), protocol.title()),
            header: header(common.len()),
            rows: lines.iter().map(grid_row).collect(),
            notes: notes(&common),
            data: crate::frame::frame(&lines)?,
        }))
    }
}

/// Median seconds an epoch of each task, over the runs.
fn task_seconds(row: &MethodRow) -> BTreeMap<&str, f64> {
    let mut seconds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for run in &row.runs {
        seconds.entry(&run.task).or_default().extend(run.epoch_seconds);
    }
    seconds.into_iter().filter_map(|(task, values)| Some((task, median(&values)?))).collect()
}

fn common_tasks<'a>(times: &[BTreeMap<&'a str, f64>]) -> Vec<&'a str> {
    let timed: Vec<_> = times.iter().filter(|own| !own.is_empty()).collect();
    let Some(first) = timed.first() else { return Vec::new() };
    first.keys().copied().filter(|task| timed.iter().all(|own| own.contains_key(task))).collect()
}

fn line(
    protocol: &Protocol,
    row: &MethodRow,
    own: &BTreeMap<&str, f64>,
    reference: Option<&BTreeMap<&str, f64>>,
    common: &[&str],
) -> Line {
    let ratio = |task: &&str| Some(own.get(*task)? / reference?.get(*task)?);
    let ratios: Vec<f64> = common.iter().filter_map(ratio).collect();
    let over_runs = |of: fn(&ResultRow) -> Option<f64>| row.runs.iter().filter_map(of).collect::<Vec<f64>>();
    let seconds: Option<Vec<f64>> = common.iter().map(|task| own.get(task).copied()).collect();
    Line {
        data_source: protocol.data_source.clone(),
        backbone: protocol.backbone.clone(),
        split: protocol.split.clone(),
        method: row.title.clone(),
        runs: over_runs(|run| run.epoch_seconds).len() as u64,
        seconds: seconds.map(|s| s.iter().sum()),
        ratio: median(&ratios),
        tokens_per_second: median(&over_runs(|run| run.tokens_per_second)),
        peak_memory_mib: over_runs(|run| run.peak_memory_mib).into_iter().max_by(f64::total_cmp),
        allocated: row.mean_count(|run| run.allocated),
        effective: row.mean_count(|run| run.effective),
    }
}

fn header(tasks: usize) -> Vec<String> {
    let seconds = if tasks == 1 { "s/epoch".to_string() } else { format!("s/epoch, {tasks} tasks") };
    let rest = ["Ratio to AdaLoRA", "Tokens/s", "Peak MiB", "Allocated", "Effective"].map(str::to_string);
    ["Method".to_string(), "Runs".to_string(), seconds].into_iter().chain(rest).collect()
}

fn grid_row(line: &Line) -> GridRow {
    let fixed = |value: Option<f64>, digits: usize| value.map_or("–".to_string(), |v| format!("{v:.digits$}"));
    let counted = |value: Option<f64>| value.map_or("–".to_string(), count);
    let cells = vec![
        line.method.clone(),
        line.runs.to_string(),
        fixed(line.seconds, 2),
        fixed(line.ratio, 2),
        fixed(line.tokens_per_second, 0),
        fixed(line.peak_memory_mib, 0),
        counted(line.allocated),
        counted(line.effective),
    ];
    GridRow { cells, sub: false }
}

fn notes(common: &[&str]) -> Vec<String> {
    vec![
        format!(
            "Seconds an epoch: sum over {} of the median over runs; ratio: median over those tasks. Evaluation and \
             checkpointing are excluded, warm-up is not, and the methods did not take turns.",
            common.join(", ")
        ),
        CLAIM.into(),
    ]
}
