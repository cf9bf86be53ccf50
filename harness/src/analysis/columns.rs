//! Which tasks are columns, and which numbers a cell prints.

use std::collections::BTreeSet;

use datasets::Task;

use crate::analysis::frame::ResultRow;
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
}

/// The eight tasks of Table 1 in its order, then other tasks that were run.
pub fn task_columns(results: &[ResultRow]) -> Vec<TaskColumn> {
    let others: BTreeSet<&str> =
        results.iter().map(|r| r.task.as_str()).filter(|t| !TABLE1_TASKS.contains(t)).collect();
    TABLE1_TASKS.iter().copied().chain(others).map(|name| column(name, results)).collect()
}

fn column(name: &str, results: &[ResultRow]) -> TaskColumn {
    let registered = datasets::tasks::TASKS.iter().find(|task| task.name == name);
    let (title, parts) = match registered {
        Some(task) => (task.title.to_string(), registered_parts(task)),
        None => (name.to_string(), seen_parts(name, results)),
    };
    TaskColumn { name: name.to_string(), title, parts }
}

fn registered_parts(task: &Task) -> Vec<(String, String)> {
    let of_set = |set: &'static str| task.reported_metrics.iter().map(move |m| (set.to_string(), m.name().to_string()));
    task.dev_sets.iter().flat_map(|set| of_set(set.name)).collect()
}

fn seen_parts(name: &str, results: &[ResultRow]) -> Vec<(String, String)> {
    let mut parts: Vec<(String, String)> = Vec::new();
    for row in results.iter().filter(|row| row.task == name && !row.metric.is_empty()) {
        let part = (row.dev_set.clone(), row.metric.clone());
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts
}
