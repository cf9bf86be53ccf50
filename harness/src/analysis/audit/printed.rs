//! Rows of a published table, and their cells as they are written.

use datasets::Task;
use datasets::metrics::Metric;
use datasets::split::Policy;
use datasets::task::SetSpec;
use datasets::tasks::TASKS;

use crate::analysis::audit::decimal::Decimal;
use crate::analysis::row_comparison::{MEAN_CORRELATION, SOME_CORRELATION};
use crate::error::{Error, Result};

/// Texts of a cell without a number.
const ABSENT: [&str; 3] = ["", "–", "-"];

/// One number of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The task.
    pub task: &'static str,
    /// Its title.
    pub title: &'static str,
    /// Metric as it was named, or the task's own; for MNLI the development set.
    pub metric: String,
    /// Whether the metric is an accuracy.
    pub is_accuracy: bool,
    /// Development set that it was measured on.
    pub set: &'static SetSpec,
    /// The number, in points of 100.
    pub value: Decimal,
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct PrintedRow {
    /// Table; the file's name where no column says it.
    pub table: String,
    /// Method; empty where no column says it.
    pub method: String,
    /// Label; the method where no column says it.
    pub label: String,
    /// Backbone; empty where no column says it.
    pub backbone: String,
    /// Split policy, where a column says it.
    pub split: Option<Policy>,
    /// Runs that each number is the mean of, where a column says it.
    pub runs: Option<usize>,
    /// Its numbers, those of a task in the order printed.
    pub cells: Vec<Cell>,
    /// The printed average.
    pub average: Option<Decimal>,
}

impl PrintedRow {
    /// Its tasks in the order printed, each with its numbers.
    pub fn tasks(&self) -> Vec<(&'static str, Vec<&Cell>)> {
        let mut tasks: Vec<(&'static str, Vec<&Cell>)> = Vec::new();
        for cell in &self.cells {
            match tasks.iter_mut().find(|(task, _)| *task == cell.task) {
                Some((_, cells)) => cells.push(cell),
                None => tasks.push((cell.task, vec![cell])),
            }
        }
        tasks
    }
}

/// Whether a heading names a task: by its name or title, without regard to case and hyphens.
pub fn is_called(task: &Task, head: &str) -> bool {
    let plain = head.replace('-', "");
    task.name == plain || task.title.to_lowercase().replace('-', "") == plain
}

/// A printed number in points of 100; `None` for an empty cell.
///
/// # Errors
/// Another text, or a number beyond 100.
pub fn number(text: &str) -> Result<Option<Decimal>> {
    if ABSENT.contains(&text) {
        return Ok(None);
    }
    let found = Decimal::parse(text).filter(|number| number.value().abs() <= 100.0).map(Some);
    found.ok_or_else(|| Error::Input(format!("expected a number in points of 100 such as 87.36, got '{text}'")))
}

/// The numbers of a cell, `92.40/89.80`.
///
/// # Errors
/// As [`number`]; more numbers than the task has.
pub fn cells(task: &'static Task, text: &str) -> Result<Vec<Cell>> {
    let numbers = text.split('/').map(|part| number(part.trim())).collect::<Result<Vec<_>>>()?;
    let own = own_metrics(task);
    if numbers.len() > own.len() {
        let expected = own.iter().map(|(metric, _)| metric.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::Input(format!("{}: expected at most {expected}, got '{text}'", task.title)));
    }
    let named = own.into_iter().zip(numbers);
    Ok(named.filter_map(|((metric, set), value)| Some(new_cell(task, metric, set, value?))).collect())
}

/// The number of one line; none where there is no value.
///
/// # Errors
/// As [`number`]; an unknown task or metric.
pub fn cell(task: &str, metric: &str, value: &str) -> Result<Option<Cell>> {
    let lower = task.to_lowercase();
    let known = TASKS.iter().find(|known| is_called(known, &lower));
    let task = known.ok_or_else(|| datasets::Error::unknown("task", task, TASKS.iter().map(|task| task.name)))?;
    let own = own_metrics(task);
    let (first, first_set) =
        own.first().cloned().ok_or_else(|| Error::Internal(format!("{} has no metric", task.name)))?;
    let metric = if metric.is_empty() { first } else { metric.to_lowercase() };
    let set = task.dev_sets().iter().find(|set| set.name == metric).unwrap_or(first_set);
    let others = Metric::ALL.iter().map(|metric| metric.name()).chain([SOME_CORRELATION, MEAN_CORRELATION]);
    let known: Vec<&str> = task.dev_sets().iter().map(|set| set.name).chain(others).collect();
    if !known.contains(&metric.as_str()) {
        return Err(datasets::Error::unknown("metric", &metric, known).into());
    }
    Ok(number(value)?.map(|value| new_cell(task, metric, set, value)))
}

/// Names of the task's numbers in the order that tables print them, with the development set of each: a set's own name where there are several.
fn own_metrics(task: &'static Task) -> Vec<(String, &'static SetSpec)> {
    let is_several = task.dev_sets().len() > 1;
    let of_set = |set: &'static SetSpec| {
        task.metrics.iter().map(move |metric| (if is_several { set.name } else { metric.name() }.to_string(), set))
    };
    task.dev_sets().iter().flat_map(of_set).collect()
}

fn new_cell(task: &'static Task, metric: String, set: &'static SetSpec, value: Decimal) -> Cell {
    let is_own = metric == set.name && task.metrics == [Metric::Accuracy];
    let is_accuracy = is_own || metric == Metric::Accuracy.name();
    Cell { task: task.name, title: task.title, metric, is_accuracy, set, value }
}
