//! Rows of one method that differ in their rank (the paper's Table 2): score and counts by rank and task.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::frame::rows::RunRow;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::published::{Number, PublishedRow, published_row};
use crate::analysis::results::GroupResults;
use crate::analysis::stats::{mean, sample_std};
use crate::analysis::summary::MethodRow;

/// Option that a rank sweep changes.
const RANK: &str = "r";

/// A method row of a rank sweep.
#[derive(Debug, Clone, Copy)]
pub struct SweepRow<'a> {
    /// Rank, or maximum rank.
    pub rank: i64,
    /// Its position in the group.
    pub index: usize,
    /// The row.
    pub method: &'a MethodRow,
}

frame_rows! {
    /// One rank of one method on one task, or on average.
    pub struct RankSweepRow {
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Split policy.
        split: String,
        /// Method.
        method: String,
        /// Setting of the row.
        label = "variant": String,
        /// Rank, or maximum rank.
        rank: i64,
        /// Task, or `average`.
        task: String,
        /// Finished seeds.
        seeds: u64,
        /// Mean score over them in points of 100.
        score: Option<f64>,
        /// Sample standard deviation.
        std: Option<f64>,
        /// Trained values.
        allocated: Option<f64>,
        /// Values left after pruning, mean over seeds.
        effective: Option<f64>,
        /// By the authors' counter, mean over seeds.
        as_published: Option<f64>,
        /// Published score: mean of the task's numbers.
        published: Option<f64>,
        /// Published row.
        published_label: String,
        /// Check that the published number went through.
        published_status: String,
    }
}

/// Rows of every method that was trained here with two ranks or more, by rank.
pub fn sweep_rows(group: &GroupResults) -> Vec<SweepRow<'_>> {
    let ranked = group.methods.iter().enumerate().filter(|(_, method)| !method.is_external());
    let ranked = ranked.filter_map(|(index, method)| Some(SweepRow { rank: rank(&method.options)?, index, method }));
    let mut rows: Vec<SweepRow> = ranked.collect();
    let mut ranks: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
    for row in &rows {
        ranks.entry(&row.method.method).or_default().insert(row.rank);
    }
    rows.retain(|row| ranks.get(row.method.method.as_str()).is_some_and(|ranks| ranks.len() > 1));
    rows.sort_by_key(|row| (order(group, row), row.rank));
    rows
}

/// Position of the first row of the same method.
fn order(group: &GroupResults, row: &SweepRow) -> usize {
    group.methods.iter().position(|method| method.method == row.method.method).unwrap_or(row.index)
}

fn rank(options: &str) -> Option<i64> {
    let value = |pair: &str| pair.split_once('=').filter(|(key, _)| *key == RANK)?.1.parse().ok();
    options.split_whitespace().find_map(value)
}

/// Numbers of the rows of a sweep, task by task, then on average.
pub fn rank_sweep(group: &GroupResults, rows: &[SweepRow], published: &[PublishedRow]) -> Vec<RankSweepRow> {
    let mut numbers = Vec::new();
    for row in rows {
        let theirs = published_row(published, &row.method.method, &group.group.split, &row.method.options);
        let theirs = theirs.filter(|theirs| is_of_rank(theirs, row.rank));
        let empty = empty(group, row, theirs);
        for column in &group.columns {
            let Some(cell) = row.method.cells.get(&column.name) else { continue };
            let scores: Vec<f64> = cell.scores.iter().map(|score| score.score()).collect();
            let count = |of: fn(&RunRow) -> Option<i64>| {
                mean(&cell.runs.iter().filter_map(|run| of(&run.row).map(|n| n as f64)).collect::<Vec<_>>())
            };
            let printed = theirs.map(|theirs| theirs.task(&column.name)).unwrap_or_default();
            numbers.push(RankSweepRow {
                task: column.name.clone(),
                seeds: scores.len() as u64,
                score: mean(&scores),
                std: sample_std(&scores),
                allocated: count(|run| run.allocated),
                effective: count(|run| run.effective),
                as_published: count(|run| run.as_published),
                ..with_published(&empty, &printed)
            });
        }
        let averages = row.method.seed_averages();
        numbers.push(RankSweepRow {
            task: "average".into(),
            seeds: averages.len() as u64,
            score: row.method.average().0,
            std: sample_std(&averages),
            allocated: row.method.mean_count(|run| run.allocated),
            effective: row.method.mean_count(|run| run.effective),
            as_published: row.method.mean_count(|run| run.as_published),
            ..with_published(&empty, &theirs.map(|theirs| theirs.task("average")).unwrap_or_default())
        });
    }
    numbers
}

/// Whether a published row's setting states this rank: a row that states none stands beside no rank of a sweep.
fn is_of_rank(row: &PublishedRow, wanted: i64) -> bool {
    row.setting.as_ref().and_then(|setting| rank(&setting.options)) == Some(wanted)
}

fn with_published(empty: &RankSweepRow, printed: &[&Number]) -> RankSweepRow {
    RankSweepRow {
        published: mean(&printed.iter().map(|number| number.value).collect::<Vec<_>>()),
        published_status: printed.iter().map(|number| number.status).max().map_or("", |status| status.name()).into(),
        ..empty.clone()
    }
}

fn empty(group: &GroupResults, row: &SweepRow, published: Option<&PublishedRow>) -> RankSweepRow {
    RankSweepRow {
        data_source: group.group.data_source.clone(),
        backbone: group.group.backbone.clone(),
        split: group.group.split.clone(),
        method: row.method.method.clone(),
        label: row.method.label.clone(),
        rank: row.rank,
        task: String::new(),
        seeds: 0,
        score: None,
        std: None,
        allocated: None,
        effective: None,
        as_published: None,
        published: None,
        published_label: published.map_or("", |row| row.label()).into(),
        published_status: String::new(),
    }
}
