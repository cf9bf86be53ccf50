//! Memorisation and generalisation over the stages of a sparsifying schedule (the paper's Fig. 3), in percent of the first stage.

use std::collections::BTreeMap;

use crate::analysis::columns::TaskColumn;
use crate::analysis::frame::run::RunResult;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::results::GroupResults;
use crate::analysis::stats::{mean, sample_std};
use crate::analysis::summary::MethodRow;
use crate::store::rows::StageRow;

/// Share of the first stage, in percent, that is kept before the turning point.
pub const KEPT: f64 = 99.0;
/// Values left at which the paper's 99 % claim is made.
pub const CLAIMED_VALUES: f64 = 40_000.0;

/// End of one stage, mean over runs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StagePoint {
    /// Stage, from 1.
    pub stage: usize,
    /// Value that the schedule gave it.
    pub schedule_value: Option<f64>,
    /// Values left after pruning.
    pub effective: f64,
    /// The same by the authors' counter.
    pub as_published: f64,
    /// Score on training rows, in percent of the first stage.
    pub memorisation: f64,
    /// Score on the validation split, in percent of the first stage.
    pub generalisation: f64,
    /// Its sample standard deviation over runs.
    pub generalisation_std: Option<f64>,
    /// Score on the test split, in percent of the first stage.
    pub test: f64,
    /// Test score itself, in points of 100.
    pub test_points: f64,
}

/// Stages of one method row on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleCurve {
    /// Position of the method row in its group.
    pub row: usize,
    /// Heading of the row.
    pub title: String,
    /// Its stages, in order.
    pub points: Vec<StagePoint>,
    /// Runs behind each point.
    pub runs: usize,
    /// Runs left out: their first stage scored nothing, or a stage is missing.
    pub left_out: usize,
}

/// Curves of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSchedule {
    /// Task name.
    pub task: String,
    /// Its heading.
    pub title: String,
    /// A curve a method row that has stages.
    pub curves: Vec<ScheduleCurve>,
}

impl ScheduleCurve {
    /// The last stage before generalisation first falls below [`KEPT`] percent: after it, sparser costs accuracy. None where it
    /// never falls.
    pub fn turning_point(&self) -> Option<&StagePoint> {
        let fallen = self.points.iter().position(|point| point.generalisation < KEPT)?;
        self.points.get(fallen.checked_sub(1)?)
    }

    /// The best test score among stages with at most so many values left.
    pub fn best_below(&self, values: f64) -> Option<&StagePoint> {
        let sparse = self.points.iter().filter(|point| point.effective <= values);
        sparse.max_by(|a, b| a.test.total_cmp(&b.test))
    }
}

/// Curves of every task of a group that has any.
pub fn schedules(group: &GroupResults) -> Vec<TaskSchedule> {
    let of_column = |column: &TaskColumn| {
        let curve = |(row, method): (usize, &MethodRow)| {
            let runs = &method.cells.get(&column.name)?.runs;
            let staged: Vec<&RunResult> = runs.iter().map(AsRef::as_ref).filter(|run| !run.stages.is_empty()).collect();
            (!staged.is_empty()).then(|| curve(row, &method.title, &staged))
        };
        let curves = group.methods.iter().enumerate().filter_map(curve).collect();
        TaskSchedule { task: column.name.clone(), title: column.title.clone(), curves }
    };
    group.columns.iter().map(of_column).filter(|task| !task.curves.is_empty()).collect()
}

fn curve(row: usize, title: &str, staged: &[&RunResult]) -> ScheduleCurve {
    let longest = staged.iter().map(|run| run.stages.len()).max().unwrap_or(0);
    let scores = |stage: &StageRow| [stage.memorisation, stage.generalisation, stage.test];
    let is_sound = |run: &&&RunResult| run.stages.len() == longest && scores(&run.stages[0]).iter().all(|s| *s > 0.0);
    let sound: Vec<&[StageRow]> = staged.iter().filter(is_sound).map(|run| run.stages.as_slice()).collect();
    let of_stage = |index: usize| {
        let values = |of: &dyn Fn(&[StageRow]) -> f64| sound.iter().map(|rows| of(rows)).collect::<Vec<_>>();
        let average = |of: &dyn Fn(&[StageRow]) -> f64| mean(&values(of)).unwrap_or(f64::NAN);
        let percent = |rows: &[StageRow], of: fn(&StageRow) -> f64| 100.0 * of(&rows[index]) / of(&rows[0]);
        StagePoint {
            stage: index + 1,
            schedule_value: sound.first().and_then(|rows| rows[index].schedule_value),
            effective: average(&|rows| rows[index].effective as f64),
            as_published: average(&|rows| rows[index].as_published as f64),
            memorisation: average(&|rows| percent(rows, |stage| stage.memorisation)),
            generalisation: average(&|rows| percent(rows, |stage| stage.generalisation)),
            generalisation_std: sample_std(&values(&|rows| percent(rows, |stage| stage.generalisation))),
            test: average(&|rows| percent(rows, |stage| stage.test)),
            test_points: average(&|rows| 100.0 * rows[index].test),
        }
    };
    let points = if sound.is_empty() { Vec::new() } else { (0..longest).map(of_stage).collect() };
    ScheduleCurve { row, title: title.into(), points, runs: sound.len(), left_out: staged.len() - sound.len() }
}

frame_rows! {
    /// One stage of one method row on one task; mean over runs.
    pub struct ScheduleRow {
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
        /// Runs.
        runs: u64,
        /// Runs left out.
        left_out: u64,
        /// Stage, from 1.
        stage: u64,
        /// Value that the schedule gave it.
        schedule_value: Option<f64>,
        /// Values left after pruning.
        effective: f64,
        /// The same by the authors' counter.
        as_published: f64,
        /// Memorisation in percent of the first stage.
        memorisation: f64,
        /// Generalisation, likewise.
        generalisation: f64,
        /// Its sample standard deviation over runs.
        generalisation_std: Option<f64>,
        /// Test score, likewise.
        test: f64,
        /// Test score in points of 100.
        test_points: f64,
        /// Whether it is the turning point, `true` or `false`.
        turning_point: String,
    }
}

/// Rows of every curve.
pub fn schedule_rows(results: &GroupResults, tasks: &[TaskSchedule]) -> Vec<ScheduleRow> {
    let group = &results.group;
    let mut rows = Vec::new();
    let curves = tasks.iter().flat_map(|task| task.curves.iter().map(move |curve| (task, curve)));
    for (task, curve) in curves {
        let MethodRow { method, label, title, .. } = &results.methods[curve.row];
        let turning = curve.turning_point().map(|point| point.stage);
        rows.extend(curve.points.iter().map(|point| ScheduleRow {
            method: method.clone(),
            label: label.clone(),
            title: title.clone(),
            task: task.task.clone(),
            split: group.split.clone(),
            data_source: group.data_source.clone(),
            backbone: group.backbone.clone(),
            runs: curve.runs as u64,
            left_out: curve.left_out as u64,
            stage: point.stage as u64,
            schedule_value: point.schedule_value,
            effective: point.effective,
            as_published: point.as_published,
            memorisation: point.memorisation,
            generalisation: point.generalisation,
            generalisation_std: point.generalisation_std,
            test: point.test,
            test_points: point.test_points,
            turning_point: (turning == Some(point.stage)).to_string(),
        }));
    }
    rows
}

/// Best test score, in percent of the first stage, that each row keeps on a task with at most [`CLAIMED_VALUES`] values left:
/// row, values left, percent.
pub fn kept_by_row(tasks: &[TaskSchedule], task: &str) -> BTreeMap<String, (f64, f64)> {
    let curves = tasks.iter().filter(|known| known.task == task).flat_map(|known| &known.curves);
    let kept = curves.filter_map(|curve| {
        let point = curve.best_below(CLAIMED_VALUES)?;
        Some((curve.title.clone(), (point.effective, point.test)))
    });
    kept.collect()
}
