//! Training curves: for each task the selection metric on the validation split, and the task loss.

use std::collections::BTreeMap;

use crate::analysis::columns::TaskColumn;
use crate::analysis::frame::run::RunResult;
use crate::analysis::results::GroupResults;
use crate::analysis::stats::mean;
use crate::analysis::summary::MethodRow;

/// A value by epoch.
pub type CurvePoint = (f64, f64);

/// One run in a panel.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Its points in the order of the epochs.
    pub points: Vec<CurvePoint>,
    /// Whether it is finished, whole and did not collapse.
    pub is_sound: bool,
}

/// Curves of one method row in a panel.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodCurves {
    /// Position of the method row in its group.
    pub row: usize,
    /// One curve a run.
    pub curves: Vec<Curve>,
    /// Mean over the finished runs at each epoch that all of them have.
    pub mean: Vec<CurvePoint>,
}

/// One task: curves of the selection metric (in points of 100) and of the task loss.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskCurves {
    /// Heading of the task.
    pub title: String,
    /// Selection metric.
    pub metric: String,
    /// Its curves.
    pub scores: Vec<MethodCurves>,
    /// Curves of the task loss.
    pub losses: Vec<MethodCurves>,
}

/// Curves of every task of a group that has any.
pub fn curves(group: &GroupResults) -> Vec<TaskCurves> {
    let of_task = |column: &TaskColumn| TaskCurves {
        title: column.title.clone(),
        metric: column.selection_metric.clone(),
        scores: of_task(column, &group.methods, |run| run.selection.iter().map(|p| (p.0, 100.0 * p.1)).collect()),
        losses: of_task(column, &group.methods, |run| run.losses.clone()),
    };
    let tasks = group.columns.iter().map(of_task);
    tasks.filter(|task| !(task.scores.is_empty() && task.losses.is_empty())).collect()
}

/// Curves of every method row on a task; `points` gives those of a run, in any order.
pub fn of_task(
    column: &TaskColumn,
    methods: &[MethodRow],
    points: impl Fn(&RunResult) -> Vec<CurvePoint>,
) -> Vec<MethodCurves> {
    let of_run = |run: &RunResult| {
        let mut points = points(run);
        points.retain(|point| point.1.is_finite());
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        (!points.is_empty()).then(|| (run.is_done(), Curve { points, is_sound: run.is_done() && !run.is_collapsed() }))
    };
    let of_method = |(row, method): (usize, &MethodRow)| {
        let runs = &method.cells.get(&column.name)?.runs;
        let found: Vec<(bool, Curve)> = runs.iter().filter_map(|run| of_run(run)).collect();
        let finished: Vec<&Curve> = found.iter().filter(|(done, _)| *done).map(|(_, curve)| curve).collect();
        let mean = mean_curve(&finished);
        let curves: Vec<Curve> = found.into_iter().map(|(_, curve)| curve).collect();
        (!curves.is_empty()).then_some(MethodCurves { row, curves, mean })
    };
    methods.iter().enumerate().filter_map(of_method).collect()
}

fn mean_curve(finished: &[&Curve]) -> Vec<CurvePoint> {
    let mut at: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (x, y) in finished.iter().flat_map(|curve| &curve.points) {
        at.entry((x * 1e4).round() as i64).or_default().push(*y);
    }
    let complete = at.into_iter().filter(|(_, values)| values.len() == finished.len());
    complete.filter_map(|(x, values)| Some((x as f64 / 1e4, mean(&values)?))).collect()
}
