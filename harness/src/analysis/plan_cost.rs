//! Cost of a plan: its runs by task, method and setting.

use std::collections::BTreeMap;

use crate::analysis::frame::typed::frame_rows;
use crate::plan::spec::RunSpec;

frame_rows! {
    /// Runs of a plan that differ in their seed only.
    #[derive(serde::Serialize)]
    pub struct PlanRow {
        /// Task.
        task: String,
        /// Method.
        method: String,
        /// Setting that its recipe gave it.
        label = "variant": String,
        /// Runs: seeds.
        runs: u64,
        /// Optimiser steps of each.
        steps: u64,
        /// Evaluations of each.
        evaluations: u64,
        /// Measured mean seconds of a step.
        step_seconds: Option<f64>,
        /// Estimated seconds of one run, evaluations included.
        run_seconds: Option<f64>,
        /// Estimated seconds of all of them.
        seconds: Option<f64>,
        /// Measured peak memory in MiB.
        peak_mib: Option<f64>,
    }
}

/// Sums over a plan.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct PlanTotal {
    /// Runs.
    pub runs: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Evaluations.
    pub evaluations: u64,
    /// Estimated seconds, one run after the other; none where not all were measured.
    pub seconds: Option<f64>,
    /// Largest measured peak in MiB.
    pub peak_mib: Option<f64>,
}

impl PlanTotal {
    /// Of these rows.
    pub fn of(rows: &[PlanRow]) -> Self {
        let sum = |of: fn(&PlanRow) -> u64| rows.iter().map(|row| row.runs * of(row)).sum();
        PlanTotal {
            runs: rows.iter().map(|row| row.runs).sum(),
            steps: sum(|row| row.steps),
            evaluations: sum(|row| row.evaluations),
            seconds: rows.iter().map(|row| row.seconds).sum(),
            peak_mib: rows.iter().filter_map(|row| row.peak_mib).max_by(f64::total_cmp),
        }
    }
}

/// Runs of a plan by task, method and setting, in its order: the first of each, and how many there are.
pub fn by_setting(plan: &[RunSpec]) -> Vec<(&RunSpec, usize)> {
    let mut found: Vec<(&RunSpec, usize)> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for run in plan {
        let place = *places.entry(run.setting()).or_insert(found.len());
        match found.get_mut(place) {
            Some((_, count)) => *count += 1,
            None => found.push((run, 1)),
        }
    }
    found
}
