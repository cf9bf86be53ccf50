//! Choosing a checkpoint: the best value of the selection metric on the validation split, the first of equals.

use serde::{Deserialize, Serialize};
use tch::Tensor;

/// The trained values at the best evaluation so far, for one development set.
pub struct BestCheckpoint {
    /// Development set.
    pub dev_set: &'static str,
    /// The best checkpoint, after the first evaluation.
    pub best: Option<Checkpoint>,
}

/// Trained values at one evaluation.
pub struct Checkpoint {
    /// Optimiser steps done.
    pub step: usize,
    /// Value of the selection metric.
    pub value: f64,
    /// Predictions there, one entry a split.
    pub scored: Vec<Scored>,
    /// All flat groups, by name.
    pub state: Vec<(String, Tensor)>,
}

/// Predictions and metrics on one split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// `validation` or `test`.
    pub split: String,
    /// Predicted class or score of each row.
    pub predictions: Vec<f64>,
    /// Every metric of the task: (name, value).
    pub metrics: Vec<(String, f64)>,
}

impl BestCheckpoint {
    /// Nothing selected yet.
    pub fn new(dev_set: &'static str) -> Self {
        BestCheckpoint { dev_set, best: None }
    }

    /// Takes the evaluation of `step` when its value is better than every one before.
    pub fn update(
        &mut self,
        step: usize,
        value: f64,
        scored: Vec<Scored>,
        state: impl FnOnce() -> Vec<(String, Tensor)>,
    ) {
        if self.best.as_ref().is_none_or(|best| value > best.value) {
            self.best = Some(Checkpoint { step, value, scored, state: state() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_stays() {
        let mut best = BestCheckpoint::new("dev");
        for (step, value) in [(10, 0.5), (20, 0.7), (30, 0.7), (40, 0.6)] {
            best.update(step, value, Vec::new(), Vec::new);
        }
        assert_eq!(best.best.map(|best| best.step), Some(20));
    }
}
