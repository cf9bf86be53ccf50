//! Results regrouped as a table sees them: method rows, task cells, one score a seed.

use std::collections::BTreeMap;

use crate::analysis::columns::TaskColumn;
use crate::analysis::frame::ResultRow;
use crate::analysis::published::{TABLE1_TASKS, average};
use crate::analysis::stats::mean;
use crate::report::tables::{method_order, method_title};

/// One method (and one setting of it).
#[derive(Debug, Clone, PartialEq)]
pub struct MethodRow {
    /// Method name.
    pub method: String,
    /// What tells its setting from others; often empty.
    pub variant: String,
    /// Every option of one of its runs.
    pub options: String,
    /// Heading of the row.
    pub title: String,
    /// Cells by task name; a task that was not run has none.
    pub cells: BTreeMap<String, TaskCell>,
    /// One row a run, finished or not.
    pub runs: Vec<ResultRow>,
}

/// One method on one task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskCell {
    /// Finished runs.
    pub scores: Vec<Score>,
    /// Runs that failed, or whose result lacks a reported metric: (run, reason).
    pub failed: Vec<(String, String)>,
    /// Runs that were cut off.
    pub unfinished: Vec<String>,
}

/// One finished run.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Run id.
    pub run: String,
    /// Seed.
    pub seed: u64,
    /// Numbers of the cell in points of 100, as many as the column has parts.
    pub parts: Vec<f64>,
    /// Examples of the test split behind each.
    pub examples: Vec<u64>,
    /// Every metric in points of 100, by development set and name.
    pub metrics: BTreeMap<(String, String), f64>,
    /// Signs of collapse; empty for a healthy run.
    pub collapse: String,
}

impl Score {
    /// The task's score: mean of the parts (spec §4.3).
    pub fn score(&self) -> f64 {
        mean(&self.parts).unwrap_or(f64::NAN)
    }
}

impl TaskCell {
    /// Values of one part over the seeds.
    pub fn part(&self, index: usize) -> Vec<f64> {
        self.scores.iter().map(|score| score.parts[index]).collect()
    }

    /// Score over the seeds.
    pub fn score(&self) -> Option<f64> {
        mean(&self.scores.iter().map(Score::score).collect::<Vec<_>>())
    }

    /// Whether one of its finished runs collapsed.
    pub fn collapsed(&self) -> bool {
        self.scores.iter().any(|score| !score.collapse.is_empty())
    }
}

impl MethodRow {
    /// Average over the eight tasks, and how many of them have a finished run.
    pub fn average(&self) -> (Option<f64>, usize) {
        let scores = TABLE1_TASKS.map(|task| self.cells.get(task).and_then(TaskCell::score));
        (average(&scores), scores.iter().flatten().count())
    }

    /// The average of each seed that finished all eight tasks.
    pub fn seed_averages(&self) -> Vec<(u64, f64)> {
        let seeds: std::collections::BTreeSet<u64> = self.runs.iter().map(|run| run.seed).collect();
        let of_seed = |seed: u64| {
            let score = |task: &str| self.cells.get(task)?.scores.iter().find(|s| s.seed == seed).map(Score::score);
            average(&TABLE1_TASKS.map(score)).map(|value| (seed, value))
        };
        seeds.into_iter().filter_map(of_seed).collect()
    }

    /// Different values of a field over the runs that were started, joined.
    pub fn distinct(&self, of: impl Fn(&ResultRow) -> &str) -> String {
        let values: std::collections::BTreeSet<&str> =
            self.runs.iter().map(of).filter(|text| !text.is_empty()).collect();
        values.into_iter().collect::<Vec<_>>().join("; ")
    }

    /// Mean of a count over the finished runs.
    pub fn mean_count(&self, of: impl Fn(&ResultRow) -> Option<i64>) -> Option<f64> {
        mean(&self.runs.iter().filter_map(|run| of(run).map(|n| n as f64)).collect::<Vec<_>>())
    }
}

/// Regroups the results of one protocol: rows in registry order, then by variant.
pub fn summarise(results: &[ResultRow], columns: &[TaskColumn]) -> Vec<MethodRow> {
    let mut grouped: BTreeMap<(usize, &str, &str), BTreeMap<&str, Vec<&ResultRow>>> = BTreeMap::new();
    for row in results {
        let key = (method_order(&row.method), row.method.as_str(), row.variant.as_str());
        grouped.entry(key).or_default().entry(row.run.as_str()).or_default().push(row);
    }
    grouped.into_iter().map(|((_, method, variant), runs)| method_row(method, variant, runs, columns)).collect()
}

fn method_row(method: &str, variant: &str, runs: BTreeMap<&str, Vec<&ResultRow>>, columns: &[TaskColumn]) -> MethodRow {
    let mut cells: BTreeMap<String, TaskCell> = BTreeMap::new();
    let mut firsts: Vec<ResultRow> = Vec::new();
    for rows in runs.values() {
        let Some(first) = rows.first() else { continue };
        firsts.push((*first).clone());
        let parts = columns.iter().find(|c| c.name == first.task).map_or(&[][..], |c| &c.parts);
        add_run(cells.entry(first.task.clone()).or_default(), first, rows, parts);
    }
    for cell in cells.values_mut() {
        cell.scores.sort_by_key(|score| score.seed);
    }
    let title = method_title(method);
    MethodRow {
        method: method.into(),
        variant: variant.into(),
        options: firsts.first().map(|run| run.options.clone()).unwrap_or_default(),
        title: if variant.is_empty() { title } else { format!("{title} ({variant})") },
        cells,
        runs: firsts,
    }
}

fn named(row: &ResultRow) -> (String, String) {
    (row.dev_set.clone(), row.metric.clone())
}

fn add_run(cell: &mut TaskCell, first: &ResultRow, rows: &[&ResultRow], parts: &[(String, String)]) {
    match first.status.as_str() {
        "failed" | "damaged" => cell.failed.push((first.run.clone(), first.failure.clone())),
        "done" => {
            let found = |(set, metric): &(String, String)| {
                let row = rows.iter().find(|row| row.dev_set == *set && row.metric == *metric)?;
                Some((100.0 * row.value?, row.test_examples.unwrap_or(0)))
            };
            match parts.iter().map(found).collect::<Option<Vec<_>>>() {
                Some(values) if !values.is_empty() => cell.scores.push(Score {
                    run: first.run.clone(),
                    seed: first.seed,
                    parts: values.iter().map(|v| v.0).collect(),
                    examples: values.iter().map(|v| v.1).collect(),
                    metrics: rows.iter().filter_map(|row| Some((named(row), 100.0 * row.value?))).collect(),
                    collapse: first.collapse.clone(),
                }),
                _ => cell.failed.push((first.run.clone(), "a reported metric is missing or not a number".into())),
            }
        }
        _ => cell.unfinished.push(first.run.clone()),
    }
}
