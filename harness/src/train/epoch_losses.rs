//! Losses of an epoch, summed on the device, and the row they become.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::store::rows::{EpochRow, PeakMiB};
use crate::train::loader::StepBatch;
use crate::train::step_values::StepValues;

/// Sums of one run over the steps of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RunSums {
    /// Task losses.
    pub task: f64,
    /// Penalties.
    pub penalty: f64,
    /// Tokens, padding not counted.
    pub tokens: u64,
    /// Tokens with padding.
    pub padded_tokens: u64,
    /// Steps.
    pub steps: usize,
}

/// Sums over the steps of an epoch: losses on the device, tokens by run.
pub struct EpochLosses {
    /// Task loss and penalty of every run, `[]` each.
    sums: Vec<[Tensor; 2]>,
    tokens: Vec<u64>,
    padded_tokens: u64,
    steps: usize,
}

impl EpochLosses {
    /// Nothing summed yet.
    pub fn new(runs: usize, device: Device) -> Self {
        let zero = || Tensor::zeros([], (Kind::Double, device));
        EpochLosses {
            sums: (0..runs).map(|_| [zero(), zero()]).collect(),
            tokens: vec![0; runs],
            padded_tokens: 0,
            steps: 0,
        }
    }

    /// Adds a step.
    pub fn add(&mut self, step: &StepBatch, values: &[StepValues]) {
        for ([task, penalty], StepValues { loss, .. }) in self.sums.iter_mut().zip(values) {
            let _ = task.g_add_(&loss.task);
            if let Some(term) = &loss.penalty {
                let _ = penalty.g_add_(term);
            }
        }
        self.tokens.iter_mut().zip(&step.tokens).for_each(|(sum, tokens)| *sum += tokens);
        self.padded_tokens += step.padded_tokens;
        self.steps += 1;
    }

    /// Steps summed.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Sums of one run, read from the device.
    pub fn of_run(&self, run: usize) -> RunSums {
        let [task, penalty] = &self.sums[run];
        RunSums {
            task: task.double_value(&[]),
            penalty: penalty.double_value(&[]),
            tokens: self.tokens[run],
            padded_tokens: self.padded_tokens,
            steps: self.steps,
        }
    }

    /// Sums of runs that stand at the same step.
    pub fn resume(runs: &[RunSums], device: Device) -> Self {
        let scalar = |value: f64| Tensor::from(value).to_kind(Kind::Double).to_device(device);
        EpochLosses {
            sums: runs.iter().map(|sums| [scalar(sums.task), scalar(sums.penalty)]).collect(),
            tokens: runs.iter().map(|sums| sums.tokens).collect(),
            padded_tokens: runs.first().map_or(0, |sums| sums.padded_tokens),
            steps: runs.first().map_or(0, |sums| sums.steps),
        }
    }

    /// Mean task loss and penalty of a run.
    fn means(&self, run: usize) -> (f64, f64) {
        let [task, penalty] = &self.sums[run];
        let mean = |sum: &Tensor| sum.double_value(&[]) / self.steps.max(1) as f64;
        (mean(task), mean(penalty))
    }

    /// The row of `epochs.csv` of a run.
    ///
    /// # Errors
    /// A loss that is not finite.
    pub fn row(&self, run: usize, epoch: usize, cost: &EpochCost, lr: f64) -> Result<EpochRow> {
        let (task_loss, penalty) = self.means(run);
        if !(task_loss + penalty).is_finite() {
            return Err(Error::Diverged(format!(
                "the loss is not finite in epoch {epoch}; a smaller lr than {lr} may help"
            )));
        }
        Ok(EpochRow {
            epoch,
            steps: self.steps,
            seconds: cost.seconds,
            task_loss,
            penalty,
            tokens: self.tokens[run],
            padded_tokens: self.padded_tokens,
            recordings: cost.captures,
            recording_seconds: cost.capture_seconds,
            peak_allocated_mib: cost.peak.peak_allocated_mib,
            peak_reserved_mib: cost.peak.peak_reserved_mib,
            peak_resident_mib: cost.peak.peak_resident_mib,
        })
    }
}

/// Cost of an epoch: each run's equal share of the seconds, and the peak of all.
pub struct EpochCost {
    /// Seconds of training.
    pub seconds: f64,
    /// Peak memory.
    pub peak: PeakMiB,
    /// Steps captured.
    pub captures: usize,
    /// Seconds of capturing.
    pub capture_seconds: f64,
}
