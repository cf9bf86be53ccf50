//! Score against effective parameters: one panel a task, and the average where all eight tasks are there.

use crate::analysis::columns::TaskColumn;
use crate::analysis::results::GroupResults;
use crate::analysis::stats::{mean, sample_std};
use crate::analysis::summary::MethodRow;

/// A mean and its sample standard deviation, 0 for a single value.
pub type Spread = (f64, f64);

/// A method row in a panel.
#[derive(Debug, Clone, PartialEq)]
pub struct ScorePoint {
    /// Position of the method row in its group.
    pub row: usize,
    /// Effective parameters over the runs.
    pub parameters: Spread,
    /// Score in points of 100 over the seeds.
    pub score: Spread,
    /// Seeds of the score.
    pub seeds: usize,
    /// Whether a run among them collapsed.
    pub collapsed: bool,
}

/// Points of every task, then of the average, that have any: heading and points.
pub fn score_panels(group: &GroupResults) -> Vec<(String, Vec<ScorePoint>)> {
    let rows = || group.methods.iter().enumerate();
    let of_task = |column: &TaskColumn| {
        (column.title.clone(), rows().filter_map(|(index, row)| task_point(index, row, &column.name)).collect())
    };
    let averages: Vec<ScorePoint> = rows().filter_map(|(index, row)| average_point(index, row)).collect();
    let tasks = group.columns.iter().map(of_task);
    tasks
        .chain([("Average of the eight tasks".to_string(), averages)])
        .filter(|(_, points)| !points.is_empty())
        .collect()
}

fn task_point(index: usize, row: &MethodRow, task: &str) -> Option<ScorePoint> {
    let cell = row.cells.get(task)?;
    let scores: Vec<f64> = cell.scores.iter().map(|score| score.score()).collect();
    let parameters = cell.runs.iter().filter_map(|run| run.row.effective);
    point(index, &parameters.map(|n| n as f64).collect::<Vec<_>>(), &scores, cell.collapsed() > 0)
}

fn average_point(index: usize, row: &MethodRow) -> Option<ScorePoint> {
    let average = row.average().0?;
    let seeds = row.seed_averages();
    let parameters: Vec<f64> = row.runs.iter().filter_map(|run| run.row.effective.map(|n| n as f64)).collect();
    let collapsed = row.cells.values().any(|cell| cell.collapsed() > 0);
    let scores = if seeds.is_empty() { vec![average] } else { seeds };
    point(index, &parameters, &scores, collapsed)
}

fn point(row: usize, parameters: &[f64], scores: &[f64], collapsed: bool) -> Option<ScorePoint> {
    let spread = |values: &[f64]| Some((mean(values)?, sample_std(values).unwrap_or(0.0)));
    Some(ScorePoint { row, parameters: spread(parameters)?, score: spread(scores)?, seeds: scores.len(), collapsed })
}
