//! Which tasks are columns, and which numbers a cell prints.

use std::collections::BTreeMap;
use std::sync::Arc;

use datasets::Task;

use crate::analysis::frame::run::RunResult;
use crate::analysis::published::TABLE1_TASKS;

/// One task as a column.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskColumn {
    /// Task name.
    pub name: String,
    /// Heading.
    pub title: String,
    /// (development set, metric) of each number in a cell: QQP Acc/F1, MNLI m/mm, one for the others (spec §4.3).
    pub parts: Vec<(String, String)>,
    /// Metric that selects the checkpoint; empty where it is not known.
    pub selection_metric: String,
}

/// The eight tasks of Table 1 in its order where one of them was run, then other tasks that were run.
pub fn task_columns(runs: &[Arc<RunResult>]) -> Vec<TaskColumn> {
    let mut by_task: BTreeMap<&str, Vec<&RunResult>> = BTreeMap::new();
    for run in runs {
        by_task.entry(&run.row.task).or_default().push(run);
    }
    let others = by_task.keys().copied().filter(|task| !TABLE1_TASKS.contains(task));
    let runs_of = |name: &str| by_task.get(name).map_or(&[][..], Vec::as_slice);
    // Runs of other tasks alone leave the eight out: every cell of theirs would be empty.
    let leaves_out = !by_task.is_empty() && !by_task.keys().any(|task| TABLE1_TASKS.contains(task));
    let eight: &[&str] = if leaves_out { &[] } else { &TABLE1_TASKS };
    eight.iter().copied().chain(others).map(|name| column(name, runs_of(name))).collect()
}

fn column(name: &str, runs: &[&RunResult]) -> TaskColumn {
    let registered = datasets::tasks::TASKS.iter().find(|task| task.name == name);
    let selected = || runs.iter().flat_map(|run| &run.scores).map(|score| &score.selection_metric);
    let (title, parts, selection_metric) = match registered {
        Some(task) => (task.title, registered_parts(task), task.selection.name().to_string()),
        None => (
            own_title(name),
            seen_parts(runs),
            selected().find(|metric| !metric.is_empty()).cloned().unwrap_or_default(),
        ),
    };
    TaskColumn { name: name.to_string(), title: title.to_string(), parts, selection_metric }
}

/// Title of a user's own task; its name where its file is not at hand.
fn own_title(name: &str) -> &str {
    datasets::tasks::find(name).map_or(name, |task| task.title)
}

fn registered_parts(task: &Task) -> Vec<(String, String)> {
    let of_set = |set: &'static str| task.reported.iter().map(move |m| (set.to_string(), m.name().to_string()));
    task.dev_sets().iter().flat_map(|set| of_set(set.name)).collect()
}

fn seen_parts(runs: &[&RunResult]) -> Vec<(String, String)> {
    let mut parts: Vec<(String, String)> = Vec::new();
    for score in runs.iter().flat_map(|run| &run.scores) {
        let part = (score.dev_set.clone(), score.metric.clone());
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts
}
