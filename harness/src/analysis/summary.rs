//! Results regrouped as a table sees them: method rows, task cells, one score a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::analysis::columns::TaskColumn;
use crate::analysis::frame::rows::RunRow;
use crate::analysis::frame::run::RunResult;
use crate::analysis::published::{TABLE1_TASKS, average};
use crate::analysis::stats::mean;

/// One method in one setting.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodRow {
    /// Method name.
    pub method: String,
    /// Text that tells its setting from others; empty for the base row.
    pub label: String,
    /// Every option of one of its runs.
    pub options: String,
    /// Heading of the row.
    pub title: String,
    /// Cells by task name; a task that was not run has none.
    pub cells: BTreeMap<String, TaskCell>,
    /// Its runs, finished or not, by id.
    pub runs: Vec<Arc<RunResult>>,
}

/// One method on one task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskCell {
    /// Its runs, finished or not, by id.
    pub runs: Vec<Arc<RunResult>>,
    /// Finished runs, by seed.
    pub scores: Vec<Score>,
    /// Runs that failed, or whose result lacks a reported metric: (run, reason).
    pub failed: Vec<(String, String)>,
    /// Runs that were cut off.
    pub unfinished: Vec<String>,
}

/// One finished run.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// The run.
    pub run: Arc<RunResult>,
    /// Numbers of the cell in points of 100, as many as the column has parts.
    pub parts: Vec<f64>,
    /// Examples of the test split behind each.
    pub examples: Vec<u64>,
}

impl Score {
    /// The task's score: mean of the parts (spec §4.3).
    pub fn score(&self) -> f64 {
        mean(&self.parts).unwrap_or(f64::NAN)
    }

    /// Seed.
    pub fn seed(&self) -> u64 {
        self.run.row.seed
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

    /// The first score of each seed.
    pub fn by_seed(&self) -> BTreeMap<u64, &Score> {
        let mut scores = BTreeMap::new();
        for score in &self.scores {
            scores.entry(score.seed()).or_insert(score);
        }
        scores
    }

    /// How many of its finished runs collapsed.
    pub fn collapsed(&self) -> usize {
        self.scores.iter().filter(|score| score.run.is_collapsed()).count()
    }
}

impl MethodRow {
    /// Average over the eight tasks, and how many of them have a finished run.
    pub fn average(&self) -> (Option<f64>, usize) {
        let scores = TABLE1_TASKS.map(|task| self.cells.get(task).and_then(TaskCell::score));
        (average(&scores), scores.iter().flatten().count())
    }

    /// The average of each seed that finished all eight tasks, by seed.
    pub fn seed_averages(&self) -> Vec<f64> {
        let mut seeds: BTreeMap<u64, [Option<f64>; TABLE1_TASKS.len()]> = BTreeMap::new();
        for (index, task) in TABLE1_TASKS.iter().enumerate() {
            for score in self.cells.get(*task).into_iter().flat_map(|cell| &cell.scores) {
                seeds.entry(score.seed()).or_default()[index].get_or_insert(score.score());
            }
        }
        seeds.values().filter_map(|scores| average(scores)).collect()
    }

    /// Different values of a field over the runs that were started, joined.
    pub fn distinct(&self, of: impl Fn(&RunRow) -> &str) -> String {
        let values: BTreeSet<&str> = self.runs.iter().map(|run| of(&run.row)).filter(|text| !text.is_empty()).collect();
        values.into_iter().collect::<Vec<_>>().join("; ")
    }

    /// Whether its runs were made elsewhere.
    pub fn is_external(&self) -> bool {
        self.runs.iter().any(|run| run.is_external())
    }

    /// Numeric versions of the programs that made its runs.
    pub fn numerics(&self) -> BTreeSet<u64> {
        self.runs.iter().filter_map(|run| run.row.numerics).collect()
    }

    /// Mean of a count over the finished runs.
    pub fn mean_count(&self, of: impl Fn(&RunRow) -> Option<i64>) -> Option<f64> {
        mean(&self.runs.iter().filter_map(|run| of(&run.row).map(|n| n as f64)).collect::<Vec<_>>())
    }
}

/// Regroups the runs of one group: methods in registry order, then by label.
pub fn method_rows(runs: &[Arc<RunResult>], columns: &[TaskColumn]) -> Vec<MethodRow> {
    let mut rows: BTreeMap<(usize, &str, &str), Vec<&Arc<RunResult>>> = BTreeMap::new();
    for run in runs {
        let key = (method_order(&run.row.method), run.row.method.as_str(), run.row.label.as_str());
        rows.entry(key).or_default().push(run);
    }
    let parts: BTreeMap<&str, &[(String, String)]> =
        columns.iter().map(|column| (column.name.as_str(), column.parts.as_slice())).collect();
    rows.into_iter().map(|((_, method, label), runs)| method_row(method, label, runs, &parts)).collect()
}

/// Name of a method in tables: the registry's title, or the name itself.
pub fn method_title(name: &str) -> String {
    let entry = methods::registry::METHODS.iter().find(|entry| entry.name == name);
    entry.map_or_else(|| name.to_string(), |entry| entry.title.to_string())
}

/// Name in tables of the method of a run whose row was just read from its files: the title that was stated of a run made elsewhere, else
/// the method's.
pub fn own_title(run: &RunRow) -> String {
    if run.title.is_empty() { method_title(&run.method) } else { run.title.clone() }
}

/// Name of a method's setting in tables, from the method's title.
pub fn row_title(title: &str, label: &str) -> String {
    if label.is_empty() { title.to_string() } else { format!("{title} ({label})") }
}

/// Name of a run's method in tables, without its setting.
pub fn bare_title(run: &RunRow) -> String {
    run.title.strip_suffix(&format!(" ({})", run.label)).unwrap_or(&run.title).to_string()
}

/// Position of a method in tables: the registry's order, unknown ones last.
pub fn method_order(name: &str) -> usize {
    methods::registry::METHODS.iter().position(|entry| entry.name == name).unwrap_or(usize::MAX)
}

fn method_row(
    method: &str,
    label: &str,
    mut runs: Vec<&Arc<RunResult>>,
    parts: &BTreeMap<&str, &[(String, String)]>,
) -> MethodRow {
    runs.sort_by(|a, b| a.row.run.cmp(&b.row.run));
    let mut cells: BTreeMap<String, TaskCell> = BTreeMap::new();
    for run in &runs {
        let parts = parts.get(run.row.task.as_str()).copied().unwrap_or_default();
        add_run(cells.entry(run.row.task.clone()).or_default(), run, parts);
    }
    cells.values_mut().for_each(|cell| cell.scores.sort_by_key(Score::seed));
    MethodRow {
        method: method.into(),
        label: label.into(),
        options: runs.first().map(|run| run.row.options.clone()).unwrap_or_default(),
        title: runs.first().map(|run| run.row.title.clone()).unwrap_or_default(),
        cells,
        runs: runs.into_iter().cloned().collect(),
    }
}

fn add_run(cell: &mut TaskCell, run: &Arc<RunResult>, parts: &[(String, String)]) {
    let row = &run.row;
    cell.runs.push(Arc::clone(run));
    match row.status.as_str() {
        "failed" | "damaged" => cell.failed.push((row.run.clone(), row.failure.clone())),
        "done" => {
            let found = |(set, metric): &(String, String)| {
                let score = run.scores.iter().find(|score| score.dev_set == *set && score.metric == *metric)?;
                Some((100.0 * score.value?, score.test_examples.unwrap_or(0)))
            };
            match parts.iter().map(found).collect::<Option<Vec<_>>>() {
                Some(values) if !values.is_empty() => {
                    let (parts, examples) = values.into_iter().unzip();
                    cell.scores.push(Score { run: Arc::clone(run), parts, examples });
                }
                _ => cell.failed.push((row.run.clone(), "a reported metric is missing or not a number".into())),
            }
        }
        _ => cell.unfinished.push(row.run.clone()),
    }
}
