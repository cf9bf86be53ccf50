//! Final ranks by layer and kind of module, one map a method row (the paper's Fig. 4).

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::frame::run::{KINDS, RunResult};
use crate::analysis::stats::mean;
use crate::analysis::summary::MethodRow;

/// Ranks of one method row.
#[derive(Debug, Clone, PartialEq)]
pub struct RankMap {
    /// Heading of the row.
    pub title: String,
    /// Mean rank over the runs by (kind, layer).
    pub tiles: BTreeMap<(String, u32), f64>,
    /// Mean of the tiles.
    pub mean: f64,
    /// Largest number of components at the start.
    pub largest: i32,
    /// Finished runs with ranks.
    pub runs: usize,
}

/// Maps of the method rows that have ranks.
pub fn rank_maps(methods: &[MethodRow]) -> Vec<RankMap> {
    let of_row = |method: &MethodRow| {
        let runs: Vec<&RunResult> = method.runs.iter().map(AsRef::as_ref).filter(|run| !run.ranks.is_empty()).collect();
        rank_map(&method.title, &runs)
    };
    methods.iter().filter_map(of_row).collect()
}

/// Kinds of modules in the maps: those of a layer in its order, then others.
pub fn kinds(maps: &[RankMap]) -> Vec<String> {
    let seen: BTreeSet<&str> = maps.iter().flat_map(|map| map.tiles.keys().map(|key| key.0.as_str())).collect();
    let known = KINDS.iter().copied().filter(|kind| seen.contains(kind));
    known.chain(seen.iter().copied().filter(|kind| !KINDS.contains(kind))).map(str::to_string).collect()
}

/// Mean ranks over runs that have ranks; none without one.
pub fn rank_map(title: &str, runs: &[&RunResult]) -> Option<RankMap> {
    let mut ranks: BTreeMap<(&str, u32), Vec<f64>> = BTreeMap::new();
    let mut largest = 0;
    for point in runs.iter().flat_map(|run| &run.ranks) {
        ranks.entry((&point.kind, point.layer)).or_default().push(f64::from(point.rank));
        largest = largest.max(point.max_rank);
    }
    let tiles: BTreeMap<(String, u32), f64> = ranks
        .into_iter()
        .filter_map(|((kind, layer), values)| Some(((kind.to_string(), layer), mean(&values)?)))
        .collect();
    let mean = mean(&tiles.values().copied().collect::<Vec<_>>())?;
    Some(RankMap { title: title.into(), tiles, mean, largest, runs: runs.len() })
}
