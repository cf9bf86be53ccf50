//! Final ranks task by task, and whether the seeds agree on them (the paper's Fig. 4).

use std::collections::BTreeMap;

use datasets::metrics::Metric;

use crate::analysis::columns::TaskColumn;
use crate::analysis::frame::run::{RankPoint, RunResult};
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::ranks::{RankMap, rank_map};
use crate::analysis::results::GroupResults;
use crate::analysis::stats::mean;
use crate::analysis::summary::MethodRow;

/// Ranks of one method row on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRanks {
    /// Task name.
    pub task: String,
    /// Mean ranks over the seeds; its title names row and task.
    pub map: RankMap,
    /// Position of the method row in its group.
    pub row: usize,
    /// Spearman's correlation of the ranks of every two seeds whose ranks vary.
    pub agreement: Vec<f64>,
}

impl TaskRanks {
    /// Mean correlation over pairs of seeds.
    pub fn mean_agreement(&self) -> Option<f64> {
        mean(&self.agreement)
    }
}

/// Ranks of every row and task where some rank is below the start: a method that prunes nothing has no map to show.
pub fn task_ranks(group: &GroupResults) -> Vec<TaskRanks> {
    let of_column = |column: &TaskColumn| {
        let maps = group.methods.iter().enumerate().filter_map(|(index, row)| of_row(index, row, column));
        maps.collect::<Vec<_>>()
    };
    group.columns.iter().flat_map(of_column).collect()
}

fn of_row(index: usize, row: &MethodRow, column: &TaskColumn) -> Option<TaskRanks> {
    let cell = row.cells.get(&column.name)?;
    let runs: Vec<&RunResult> = cell.runs.iter().map(AsRef::as_ref).filter(|run| !run.ranks.is_empty()).collect();
    let is_pruned = runs.iter().flat_map(|run| &run.ranks).any(|point| point.rank < point.max_rank);
    let map = rank_map(&format!("{}, {}", row.title, column.title), &runs).filter(|_| is_pruned)?;
    let vectors: Vec<Vec<f64>> = runs.iter().map(|run| vector(&run.ranks)).collect();
    let pairs = (0..vectors.len()).flat_map(|a| (a + 1..vectors.len()).map(move |b| (a, b)));
    let agreement = pairs.filter_map(|(a, b)| correlation(&vectors[a], &vectors[b])).collect();
    Some(TaskRanks { task: column.name.clone(), map, row: index, agreement })
}

/// Ranks in the order of kinds and layers, so that two runs compare module by module.
fn vector(ranks: &[RankPoint]) -> Vec<f64> {
    let sorted: BTreeMap<(&str, u32), f64> =
        ranks.iter().map(|point| ((point.kind.as_ref(), point.layer), f64::from(point.rank))).collect();
    sorted.into_values().collect()
}

/// Spearman's correlation; none where one side is constant or the modules are not the same.
fn correlation(a: &[f64], b: &[f64]) -> Option<f64> {
    let varies = |values: &[f64]| values.windows(2).any(|pair| pair[0] != pair[1]);
    if a.len() != b.len() || !varies(a) || !varies(b) {
        return None;
    }
    Metric::Spearman.compute(a, b).ok()
}

frame_rows! {
    /// One row on one task.
    pub struct RankAgreementRow {
        /// Method.
        method: String,
        /// Difference from the method's first setting; `base` for that.
        label = "variant": String,
        /// Name of method and variant in tables.
        title: String,
        /// Task.
        task: String,
        /// Split policy.
        split: String,
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Finished runs.
        runs: u64,
        /// Mean rank of a module.
        mean_rank: f64,
        /// Components of a module at the start.
        max_rank: i64,
        /// Kind of module with the largest mean rank.
        largest_kind: String,
        /// That mean.
        largest: f64,
        /// Kind with the smallest.
        smallest_kind: String,
        /// That mean.
        smallest: f64,
        /// Pairs of seeds.
        pairs: u64,
        /// Mean rank correlation (Spearman) between seeds.
        agreement: Option<f64>,
        /// Smallest of the pairs.
        agreement_low: Option<f64>,
        /// Largest of the pairs.
        agreement_high: Option<f64>,
    }
}

/// Numbers of every map.
pub fn agreement_rows(group: &GroupResults, maps: &[TaskRanks]) -> Vec<RankAgreementRow> {
    let row = |ranks: &TaskRanks| {
        let MethodRow { method, label, title, .. } = &group.methods[ranks.row];
        let mut kinds: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for ((kind, _), rank) in &ranks.map.tiles {
            kinds.entry(kind).or_default().push(*rank);
        }
        let means: Vec<(&str, f64)> = kinds.into_iter().filter_map(|(kind, all)| Some((kind, mean(&all)?))).collect();
        let by_mean = |a: &&(&str, f64), b: &&(&str, f64)| a.1.total_cmp(&b.1);
        let (largest, smallest) = (*means.iter().max_by(by_mean)?, *means.iter().min_by(by_mean)?);
        Some(RankAgreementRow {
            method: method.clone(),
            label: label.clone(),
            title: title.clone(),
            task: ranks.task.clone(),
            split: group.group.split.clone(),
            data_source: group.group.data_source.clone(),
            backbone: group.group.backbone.clone(),
            runs: ranks.map.runs as u64,
            mean_rank: ranks.map.mean,
            max_rank: i64::from(ranks.map.largest),
            largest_kind: largest.0.into(),
            largest: largest.1,
            smallest_kind: smallest.0.into(),
            smallest: smallest.1,
            pairs: ranks.agreement.len() as u64,
            agreement: ranks.mean_agreement(),
            agreement_low: ranks.agreement.iter().copied().min_by(f64::total_cmp),
            agreement_high: ranks.agreement.iter().copied().max_by(f64::total_cmp),
        })
    };
    maps.iter().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_spearmans_correlation_where_both_vary() {
        // scipy.stats.spearmanr([0, 3, 8, 8], [1, 2, 4, 8]).statistic
        let found = correlation(&[0.0, 3.0, 8.0, 8.0], &[1.0, 2.0, 4.0, 8.0]).unwrap();
        assert!((found - 0.948_683_298_050_513_8).abs() < 1e-12, "{found}");
        assert_eq!(correlation(&[8.0, 8.0], &[1.0, 2.0]), None);
        assert_eq!(correlation(&[1.0, 2.0], &[1.0, 2.0, 3.0]), None);
    }
}
