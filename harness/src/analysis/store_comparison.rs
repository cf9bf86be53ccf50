//! Runs of two stores or reports against each other, by row, task and seed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::analysis::columns::{TaskColumn, task_columns};
use crate::analysis::differing::{DifferingField, Pair, differing, not_compared};
use crate::analysis::frame::group::ReportGroup;
use crate::analysis::frame::run::RunResult;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::paired::{EQUAL, FEWEST, PairedRow, compare_seeds};
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::analysis::stats::mean;
use crate::analysis::summary::{MethodRow, Score};
use crate::analysis::verdict::{ALPHA, detectable};

/// Word for scores that are the same, seed by seed.
const IDENTICAL: &str = "identical";
/// Word for a difference that these seeds do not show.
const WITHIN: &str = "within noise";
/// Task of a row over all tasks.
const ALL: &str = "all";

frame_rows! {
    /// One method row on one task, or over all tasks, in both; in points of 100.
    #[derive(Serialize)]
    pub struct MovedRow {
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Split policy.
        split: String,
        /// Name of method and variant in tables.
        title: String,
        /// Task, or `all`: over the tasks with common seeds.
        task: String,
        /// Seeds finished in both.
        pairs: u64,
        /// Seeds whose scores are equal; null over all tasks.
        identical: Option<u64>,
        /// Mean score in A over those seeds; null over all tasks.
        before: Option<f64>,
        /// Mean score in B.
        after: Option<f64>,
        /// Mean difference, B - A.
        difference: Option<f64>,
        /// Its sample standard deviation over seeds.
        std: Option<f64>,
        /// Two-sided p of the paired t test over seeds, Holm-corrected over the tasks of a row; null without spread or below three seeds.
        p: Option<f64>,
        /// Least difference that these seeds show with a power of 80 %.
        detectable: Option<f64>,
        /// Mean effective parameters in A.
        effective_before: Option<f64>,
        /// Mean effective parameters in B.
        effective_after: Option<f64>,
        /// Median seconds of an epoch, B by A.
        time_ratio: Option<f64>,
        /// `identical`, `moved`, `within noise` or `too few seeds`.
        word: String,
    }
}

frame_rows! {
    /// A run without a partner.
    #[derive(Serialize)]
    pub struct AloneRow {
        /// `A` or `B`.
        side: String,
        /// Run id.
        run: String,
        /// State of the run: `done`, `failed`, `damaged` or `unfinished`.
        status: String,
        /// State of its partner; `none` without one.
        partner: String,
    }
}

/// Two stores or reports side by side.
#[derive(Debug, Clone, Serialize)]
pub struct StoreComparison {
    /// Pairs of finished runs.
    pub pairs: usize,
    /// Scores.
    pub moved: Vec<MovedRow>,
    /// Settings and origins that differ.
    pub differing: Vec<DifferingField>,
    /// Sides, `A` or `B`, that are reports: of their runs only the settings in results.csv are known.
    pub reports: Vec<String>,
    /// Settings of the other side that therefore were not compared.
    pub not_compared: Vec<String>,
    /// Runs that stand in one alone, or are not finished in both.
    pub alone: Vec<AloneRow>,
}

/// Row, task and seed of a run: what makes it the same run in another store.
type Key<'a> = (ReportGroup, &'a str, &'a str, &'a str, u64);

fn key(run: &RunResult) -> Key<'_> {
    let row = &run.row;
    (run.group(), &row.method, &row.label, &row.task, row.seed)
}

impl StoreComparison {
    /// Compares `b` with `a`.
    pub fn of(a: &ResultsFrame, b: &ResultsFrame) -> Self {
        let [of_a, of_b] = [a, b].map(|frame| by_key(&frame.runs));
        let both = |key: &&Key| of_a[*key].is_done() && of_b.get(*key).is_some_and(|run| run.is_done());
        let pairs: Vec<Pair> = of_a.keys().filter(both).map(|key| [of_a[key], of_b[key]]).collect();
        let alone = [alone("A", &a.runs, &of_a, &of_b), alone("B", &b.runs, &of_b, &of_a)].concat();
        let is_report = |side: usize| pairs.iter().any(|pair| pair[side].stored.is_none());
        StoreComparison {
            pairs: pairs.len(),
            moved: moved(a, b),
            differing: differing(&pairs),
            reports: ["A", "B"]
                .iter()
                .enumerate()
                .filter(|(side, _)| is_report(*side))
                .map(|(_, name)| name.to_string())
                .collect(),
            not_compared: not_compared(&pairs),
            alone,
        }
    }
}

/// The first run of each key.
fn by_key(runs: &[Arc<RunResult>]) -> BTreeMap<Key<'_>, &RunResult> {
    let mut found = BTreeMap::new();
    for run in runs {
        found.entry(key(run)).or_insert(run.as_ref());
    }
    found
}

/// Runs of one side that are not compared, in the order given.
fn alone(
    side: &str,
    runs: &[Arc<RunResult>],
    own: &BTreeMap<Key, &RunResult>,
    others: &BTreeMap<Key, &RunResult>,
) -> Vec<AloneRow> {
    let of_run = |run: &Arc<RunResult>| {
        let key = key(run);
        let is_first = own.get(&key).is_some_and(|first| std::ptr::eq(*first, run.as_ref()));
        let partner = match others.get(&key) {
            Some(_) if !is_first => "taken by another run of its row, task and seed",
            Some(partner) => partner.row.status.as_str(),
            None => "none",
        };
        let is_compared = run.is_done() && partner == "done";
        (!is_compared).then(|| AloneRow {
            side: side.into(),
            run: run.row.run.clone(),
            status: run.row.status.clone(),
            partner: partner.into(),
        })
    };
    runs.iter().filter_map(of_run).collect()
}

/// Scores of every row that both have, task by task.
fn moved(a: &ResultsFrame, b: &ResultsFrame) -> Vec<MovedRow> {
    let mut found = Vec::new();
    for after in &b.groups {
        let Some(before) = a.groups.iter().find(|group| group.group == after.group) else { continue };
        let columns = columns(before, after);
        for row in &after.methods {
            let is_same = |other: &&MethodRow| other.method == row.method && other.label == row.label;
            let Some(other) = before.methods.iter().find(is_same) else { continue };
            let compared = compare_seeds(&after.group, &(row, other), &columns).into_iter().filter(|row| row.pairs > 0);
            let mut rows: Vec<MovedRow> = compared.map(|paired| moved_row(paired, row, other)).collect();
            // Differences of tasks that cancel are differences.
            let is_other = |row: &MovedRow| row.task != ALL && row.word != IDENTICAL;
            if rows.iter().any(is_other) {
                rows.iter_mut()
                    .filter(|row| row.word == IDENTICAL && row.task == ALL)
                    .for_each(|row| row.word = WITHIN.into());
            }
            found.extend(rows);
        }
    }
    found
}

/// Task columns of both groups together.
fn columns(before: &GroupResults, after: &GroupResults) -> Vec<TaskColumn> {
    let runs = |group: &GroupResults| group.methods.iter().flat_map(|row| row.runs.clone()).collect::<Vec<_>>();
    task_columns(&[runs(before), runs(after)].concat())
}

/// Scores of the seeds that both finished, [A, B].
fn common<'a>(task: &str, row: &'a MethodRow, other: &'a MethodRow) -> Vec<[&'a Score; 2]> {
    let Some((own, theirs)) = row.cells.get(task).zip(other.cells.get(task)) else { return Vec::new() };
    let partners = theirs.by_seed();
    own.by_seed().into_iter().filter_map(|(seed, score)| Some([*partners.get(&seed)?, score])).collect()
}

fn moved_row(paired: PairedRow, row: &MethodRow, other: &MethodRow) -> MovedRow {
    let common = common(&paired.task, row, other);
    let is_over_tasks = paired.task == ALL;
    let over = |side: usize, of: &dyn Fn(&Score) -> Option<f64>| {
        mean(&common.iter().map(|pair| of(pair[side])).collect::<Option<Vec<_>>>()?)
    };
    let sides = |of: &dyn Fn(&Score) -> Option<f64>| [over(0, of), over(1, of)];
    let [before, after] = sides(&|score| Some(score.score()));
    let [effective_before, effective_after] = sides(&|score| score.run.row.effective.map(|count| count as f64));
    let [seconds_before, seconds_after] = sides(&|score| score.run.row.epoch_seconds);
    let equal = common.iter().filter(|[before, after]| (before.score() - after.score()).abs() <= EQUAL).count();
    let error = paired.std.map(|std| std / (paired.pairs as f64).sqrt());
    MovedRow {
        pairs: paired.pairs,
        identical: (!is_over_tasks).then_some(equal as u64),
        before,
        after,
        difference: paired.difference,
        std: paired.std,
        p: if is_over_tasks { paired.p_t } else { paired.p_holm },
        detectable: error.filter(|error| *error > EQUAL).and_then(|error| detectable(error, paired.pairs as usize)),
        effective_before,
        effective_after,
        time_ratio: seconds_after.zip(seconds_before).map(|(after, before)| after / before),
        word: word(&paired).into(),
        data_source: paired.data_source,
        backbone: paired.backbone,
        split: paired.split,
        title: paired.title,
        task: paired.task,
    }
}

/// Differences that are all the same leave the t test without spread: they are chance only where they are nothing.
fn word(paired: &PairedRow) -> &'static str {
    let p = if paired.task == ALL { paired.p_t } else { paired.p_holm };
    let [difference, std] = [paired.difference, paired.std].map(|value| value.unwrap_or_default().abs());
    match p {
        _ if difference <= EQUAL && std <= EQUAL => IDENTICAL,
        _ if paired.pairs < FEWEST as u64 => "too few seeds",
        Some(p) if p >= ALPHA => WITHIN,
        _ => "moved",
    }
}
