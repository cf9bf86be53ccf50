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

frame_rows! {
    /// One run of a plan, as a dry run shows it.
    #[derive(serde::Serialize)]
    pub struct PlannedRun {
        /// Run id; empty where backbone or rows are not at hand.
        run: String,
        /// Task.
        task: String,
        /// Method.
        method: String,
        /// Setting that its recipe gave it.
        label = "variant": String,
        /// Master seed.
        seed: u64,
        /// `done`, `running`, `begun`, `failed, made again` or `left`.
        state: String,
        /// Optimiser steps.
        steps: u64,
        /// Evaluations.
        evaluations: u64,
        /// Estimated seconds; measured on this device.
        seconds: Option<f64>,
        /// Mebibytes that the finished run takes.
        disk_mib: Option<f64>,
    }
}

/// Sums over a plan's runs.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct PlannedTotal {
    /// Runs.
    pub runs: u64,
    /// Runs that are finished.
    pub done: u64,
    /// Runs that another process makes.
    pub running: u64,
    /// Optimiser steps of those that are not finished.
    pub steps: u64,
    /// Their evaluations.
    pub evaluations: u64,
    /// Their estimated seconds, one after the other; none where not all were measured.
    pub seconds: Option<f64>,
    /// Mebibytes that they take in the end; none where that is not known of all.
    pub disk_mib: Option<f64>,
}

impl PlannedTotal {
    /// Of these runs.
    pub fn of(runs: &[PlannedRun]) -> Self {
        let count = |state: &str| runs.iter().filter(|run| run.state == state).count() as u64;
        let open = || runs.iter().filter(|run| run.state != "done");
        PlannedTotal {
            runs: runs.len() as u64,
            done: count("done"),
            running: count("running"),
            steps: open().map(|run| run.steps).sum(),
            evaluations: open().map(|run| run.evaluations).sum(),
            seconds: open().map(|run| run.seconds).sum(),
            disk_mib: open().map(|run| run.disk_mib).sum(),
        }
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
