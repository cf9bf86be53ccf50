//! Steps and gates of a run as figures show them.

use std::collections::BTreeMap;

use crate::analysis::stats::mean;
use crate::store::record::StoredTraces;
use crate::store::rows::StepRow;

/// Most points of one line.
const MOST_POINTS: usize = 100;

/// Traces of a group's runs by their ids.
pub type TracesByRun = BTreeMap<String, RunTraces>;

/// Steps and gates of one finished run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunTraces {
    /// Task loss by step: means over the logged steps up to each point.
    pub losses: Vec<(f64, f64)>,
    /// Non-zero gates or singular values by step; empty for a method without them.
    pub components: Vec<(f64, f64)>,
    /// Gates or singular values at the last step; empty for a method without them.
    pub gates: Vec<f32>,
}

impl RunTraces {
    /// Stored rows, thinned to what a line can show.
    pub fn of(stored: &StoredTraces) -> Self {
        let size = stored.steps.len().div_ceil(MOST_POINTS).max(1);
        let bins = || stored.steps.chunks(size).filter_map(|bin| Some((bin, bin.last()?)));
        let loss = |bin: &[StepRow]| mean(&bin.iter().map(|row| f64::from(row.task_loss)).collect::<Vec<_>>());
        let last = stored.gates.iter().map(|row| row.step).max();
        let gates = stored.gates.iter().filter(|row| Some(row.step) == last);
        RunTraces {
            losses: bins().filter_map(|(bin, row)| Some((row.step as f64, loss(bin)?))).collect(),
            components: bins().filter_map(|(_, row)| Some((row.step as f64, row.nonzero_components? as f64))).collect(),
            gates: gates.map(|row| row.value).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::rows::GateRow;

    fn step(step: usize) -> StepRow {
        StepRow {
            step,
            epoch: 1,
            task_loss: step as f32,
            penalty: 0.0,
            lr: 1e-3,
            grad_norm: 1.0,
            nonzero_components: Some(1000 - step as i64),
        }
    }

    fn gate(step: usize, value: f32) -> GateRow {
        GateRow { step, module: "m".into(), layer: 0, kind: "query".into(), component: 0, value }
    }

    #[test]
    fn a_line_has_a_hundred_points_at_most_and_ends_with_the_last_step() {
        let stored = StoredTraces { steps: (1..=399).map(step).collect(), gates: Vec::new() };
        let traces = RunTraces::of(&stored);
        assert_eq!(traces.losses.len(), 100);
        assert_eq!(traces.losses[0], (4.0, 2.5), "the mean of the first four");
        assert_eq!(traces.components[0], (4.0, 996.0), "the count at the last of them");
        assert_eq!(traces.losses.last(), Some(&(399.0, 398.0)));
    }

    #[test]
    fn gates_are_those_of_the_last_step_and_a_run_without_files_has_none() {
        let stored = StoredTraces { steps: Vec::new(), gates: vec![gate(5, 0.5), gate(9, 0.0), gate(9, -0.25)] };
        assert_eq!(RunTraces::of(&stored).gates, [0.0, -0.25]);
        assert_eq!(RunTraces::of(&StoredTraces::default()), RunTraces::default());
    }
}
