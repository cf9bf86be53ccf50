//! Curves and ranks of every run in one file each, under the columns that all files share.

use serde::Serialize;

use crate::analysis::frame::run::RunResult;
use crate::analysis::frame::typed::{BASE, internal};
use crate::analysis::results::ResultsFrame;
use crate::error::Result;

/// One line of `curves.csv`: one value of a run at one epoch.
#[derive(Serialize)]
struct CurveLine<'a> {
    /// Run id.
    run: &'a str,
    /// Method.
    method: &'a str,
    /// Difference from the method's first setting; `base` for that.
    variant: &'a str,
    /// Name of method and variant in tables.
    title: &'a str,
    /// Task.
    task: &'a str,
    /// Split policy.
    split: &'a str,
    /// Master seed.
    seed: u64,
    /// Epochs done.
    epoch: f64,
    /// `task_loss`, the epoch's mean on the training rows, or `selection`, the task's selection metric on the validation split.
    quantity: &'a str,
    /// Its value: a loss as it is, a metric in points of 100.
    value: f64,
}

/// One line of `ranks.csv` of a report: one target module of a finished run at its selected checkpoint.
#[derive(Serialize)]
struct RankLine<'a> {
    /// Run id.
    run: &'a str,
    /// Method.
    method: &'a str,
    /// Difference from the method's first setting; `base` for that.
    variant: &'a str,
    /// Name of method and variant in tables.
    title: &'a str,
    /// Task.
    task: &'a str,
    /// Split policy.
    split: &'a str,
    /// Master seed.
    seed: u64,
    /// Layer, from 0.
    layer: u32,
    /// Kind of the module.
    kind: &'a str,
    /// Non-zero components.
    rank: i32,
    /// Components at the start.
    max_rank: i32,
}

fn variant(run: &RunResult) -> &str {
    if run.row.label.is_empty() { BASE } else { &run.row.label }
}

/// `curves.csv`.
///
/// # Errors
/// A bug only.
pub fn curves_csv(frame: &ResultsFrame) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for run in &frame.runs {
        let losses = run.losses.iter().map(|point| ("task_loss", point.0, point.1));
        let selection = run.selection.iter().map(|point| ("selection", point.0, 100.0 * point.1));
        for (quantity, epoch, value) in losses.chain(selection) {
            let row = &run.row;
            let (run_id, variant) = (row.run.as_str(), variant(run));
            let line = CurveLine {
                run: run_id,
                method: &row.method,
                variant,
                title: &row.title,
                task: &row.task,
                split: &row.split,
                seed: row.seed,
                epoch,
                quantity,
                value,
            };
            writer.serialize(line).map_err(internal)?;
        }
    }
    writer.into_inner().map_err(internal)
}

/// `ranks.csv`.
///
/// # Errors
/// A bug only.
pub fn ranks_csv(frame: &ResultsFrame) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for run in &frame.runs {
        for point in &run.ranks {
            let row = &run.row;
            let line = RankLine {
                run: &row.run,
                method: &row.method,
                variant: variant(run),
                title: &row.title,
                task: &row.task,
                split: &row.split,
                seed: row.seed,
                layer: point.layer,
                kind: &point.kind,
                rank: point.rank,
                max_rank: point.max_rank,
            };
            writer.serialize(line).map_err(internal)?;
        }
    }
    writer.into_inner().map_err(internal)
}
