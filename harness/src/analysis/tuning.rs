//! Trials of `rankbench tune`: the setting of each method and task that validation chooses, what the search cost, and the rows of the
//! chosen settings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::analysis::frame::run::RunResult;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::results::GroupResults;
use crate::analysis::stats::{mean, sample_std};
use crate::analysis::summary::{MethodRow, Score, TaskCell, method_title};

/// Label of a row that is made of chosen settings.
pub const TUNED: &str = "tuned";
/// Part of a label that names a trial's learning rate: what every search varies.
const RATE: &str = "lr=";

/// One setting of a method on a task.
#[derive(Debug, Clone)]
pub struct Trial<'a> {
    /// Label of the setting.
    pub label: &'a str,
    /// Learning rate.
    pub lr: f64,
    /// Finished runs by seed.
    pub scores: Vec<&'a Score>,
    /// Mean validation score over the seeds that every trial has, in points of 100.
    pub validation: Option<f64>,
}

/// All trials of a method on a task.
#[derive(Debug, Clone)]
pub struct Search<'a> {
    /// Method.
    pub method: &'a str,
    /// Task.
    pub task: &'a str,
    /// Trials, by learning rate.
    pub trials: Vec<Trial<'a>>,
    /// Position of the chosen one: the best mean validation score, the first of equals.
    pub chosen: Option<usize>,
    /// Seeds that every trial has.
    pub seeds: BTreeSet<u64>,
    /// Wall seconds of the runs that the choice is made from.
    pub seconds: f64,
    /// How many they are.
    pub runs: usize,
}

impl Search<'_> {
    /// Whether a row is one of its trials, on this task or another.
    pub fn has(&self, row: &MethodRow) -> bool {
        row.method == self.method && self.trials.iter().any(|trial| trial.label == row.label)
    }

    /// The chosen trial.
    pub fn best(&self) -> Option<&Trial<'_>> {
        self.trials.get(self.chosen?)
    }
}

/// Searches of a group, by method, then by task: rows whose label names a learning rate, where there are two or more.
pub fn searches(group: &GroupResults) -> Vec<Search<'_>> {
    let is_trial =
        |row: &&MethodRow| !row.is_external() && row.label.split_whitespace().any(|part| part.starts_with(RATE));
    let rows: Vec<&MethodRow> = group.methods.iter().filter(is_trial).collect();
    let mut methods: Vec<&str> = rows.iter().map(|row| row.method.as_str()).collect();
    methods.dedup();
    let mut found = Vec::new();
    for method in methods {
        for column in &group.columns {
            let of_method = rows.iter().filter(|row| row.method == method);
            let cells = of_method.filter_map(|row| Some((row.label.as_str(), row.cells.get(&column.name)?)));
            let cells: Vec<(&str, &TaskCell)> = cells.collect();
            if cells.len() > 1 {
                found.push(search(method, &column.name, &cells));
            }
        }
    }
    found
}

fn search<'a>(method: &'a str, task: &'a str, cells: &[(&'a str, &'a TaskCell)]) -> Search<'a> {
    // A trial that failed has no seed to compare, and is not chosen.
    let finished = || cells.iter().filter(|(_, cell)| !cell.scores.is_empty());
    let seeds = finished().map(|(_, cell)| cell.by_seed().into_keys().collect::<BTreeSet<u64>>());
    let seeds = seeds.reduce(|a, b| &a & &b).unwrap_or_default();
    let trial = |&(label, cell): &(&'a str, &'a TaskCell)| {
        let scores: Vec<&Score> = cell.by_seed().into_values().collect();
        let common = scores.iter().filter(|score| seeds.contains(&score.seed()));
        let validation = mean(&common.filter_map(|score| best_validation(&score.run)).collect::<Vec<_>>());
        let lr = cell.runs.first().and_then(|run| run.row.lr).unwrap_or(f64::NAN);
        Trial { label, lr, scores, validation }
    };
    let mut trials: Vec<Trial> = cells.iter().map(trial).collect();
    trials.sort_by(|a, b| a.lr.total_cmp(&b.lr));
    let mut chosen: Option<usize> = None;
    for (index, trial) in trials.iter().enumerate() {
        let best = chosen.and_then(|best| trials[best].validation);
        if trial.validation.is_some() && (best.is_none() || trial.validation > best) {
            chosen = Some(index);
        }
    }
    let counted = trials.iter().flat_map(|trial| &trial.scores).filter(|score| seeds.contains(&score.seed()));
    let seconds: Vec<f64> = counted.map(|score| score.run.row.wall_seconds.unwrap_or(0.0)).collect();
    Search { method, task, chosen, seeds, runs: seconds.len(), seconds: seconds.iter().sum(), trials }
}

/// Best value of the selection metric on the validation split, in points of 100: the selected checkpoint's.
fn best_validation(run: &RunResult) -> Option<f64> {
    run.selection.iter().map(|(_, value)| 100.0 * value).max_by(f64::total_cmp)
}

/// One row a method, made of the chosen setting of each task.
pub fn tuned_rows(searches: &[Search]) -> Vec<MethodRow> {
    let mut cells: BTreeMap<&str, BTreeMap<String, TaskCell>> = BTreeMap::new();
    for search in searches {
        if let Some(best) = search.best() {
            let scores: Vec<Score> = best.scores.iter().map(|score| (*score).clone()).collect();
            let runs: Vec<Arc<RunResult>> = scores.iter().map(|score| Arc::clone(&score.run)).collect();
            let cell = TaskCell { runs, scores, ..TaskCell::default() };
            cells.entry(search.method).or_default().insert(search.task.into(), cell);
        }
    }
    let row = |(method, cells): (&str, BTreeMap<String, TaskCell>)| MethodRow {
        method: method.into(),
        label: TUNED.into(),
        options: String::new(),
        title: format!("{} ({TUNED})", method_title(method)),
        runs: cells.values().flat_map(|cell| cell.runs.iter().cloned()).collect(),
        cells,
    };
    cells.into_iter().map(row).collect()
}

frame_rows! {
    /// One trial of a search.
    pub struct TuningRow {
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Split policy.
        split: String,
        /// Method.
        method: String,
        /// Task.
        task: String,
        /// Setting.
        setting: String,
        /// Learning rate.
        lr: f64,
        /// Trials of the search.
        trials: u64,
        /// Seeds that the choice is made from.
        trial_seeds: u64,
        /// Mean validation score over them.
        validation: Option<f64>,
        /// Whether it is the chosen one, `true` or `false`.
        chosen: String,
        /// Finished seeds.
        seeds: u64,
        /// Mean test score over all of them.
        test: Option<f64>,
        /// Its sample standard deviation.
        std: Option<f64>,
        /// Runs that the search took.
        search_runs: u64,
        /// Their wall seconds.
        search_seconds: f64,
    }
}

/// Rows of every trial.
pub fn tuning_rows(group: &GroupResults, searches: &[Search]) -> Vec<TuningRow> {
    let of_search = |search: &Search| {
        let row = |(index, trial): (usize, &Trial)| {
            let scores: Vec<f64> = trial.scores.iter().map(|score| score.score()).collect();
            TuningRow {
                data_source: group.group.data_source.clone(),
                backbone: group.group.backbone.clone(),
                split: group.group.split.clone(),
                method: search.method.into(),
                task: search.task.into(),
                setting: trial.label.into(),
                lr: trial.lr,
                trials: search.trials.len() as u64,
                trial_seeds: search.seeds.len() as u64,
                validation: trial.validation,
                chosen: (search.chosen == Some(index)).to_string(),
                seeds: scores.len() as u64,
                test: mean(&scores),
                std: sample_std(&scores),
                search_runs: search.runs as u64,
                search_seconds: search.seconds,
            }
        };
        search.trials.iter().enumerate().map(row).collect::<Vec<_>>()
    };
    searches.iter().flat_map(of_search).collect()
}
