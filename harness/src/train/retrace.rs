//! The beginning of a stored run made again, its losses held against the stored ones.

use crate::error::{Error, Result};
use crate::load::backbone::Backbone;
use crate::load::task_data::TokenizedTask;
use crate::plan::spec::RunSpec;
use crate::store::rows::EpochRow;
use crate::train::trainer::{Next, Trainer};

/// One epoch, as it was stored and as it came out again: losses are means over its steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retraced {
    /// First and last step, from 1.
    pub steps: (usize, usize),
    /// Stored task loss and penalty.
    pub stored: (f64, f64),
    /// The same now.
    pub now: (f64, f64),
}

impl Retraced {
    /// Whether both losses are equal to the last digit.
    pub fn is_equal(&self) -> bool {
        self.stored == self.now
    }

    /// Task loss and penalty now, less the stored ones.
    pub fn difference(&self) -> (f64, f64) {
        (self.now.0 - self.stored.0, self.now.1 - self.stored.1)
    }
}

/// Epochs of the first stage that hold the first `steps` steps: the stored trace has a value an epoch.
pub fn epochs_of(spec: &RunSpec, rows: usize, steps: usize) -> usize {
    steps.div_ceil(rows.div_ceil(spec.train.batch_size).max(1)).clamp(1, spec.train.epochs)
}

/// Makes the first `epochs` epochs of a run again, alone, and tells each.
///
/// # Errors
/// A stored epoch that is missing; a loss that is not finite; a failure on the device.
pub fn retrace(
    (spec, stored): (&RunSpec, &[EpochRow]),
    backbone: &Backbone,
    data: &TokenizedTask,
    epochs: usize,
    tell: &dyn Fn(usize, &Retraced),
) -> Result<Vec<Retraced>> {
    let mut trainer = Trainer::new(&[spec], backbone, data, None)?;
    let (mut found, mut done) = (Vec::new(), 0);
    for epoch in 1..=epochs {
        let before = stored.iter().find(|row| row.epoch == epoch);
        let before = before.ok_or_else(|| Error::Input(format!("epochs.csv has no epoch {epoch} to compare with")))?;
        let rows = trainer.epoch(epoch, &mut |_, _| Ok(Next::Continue))?;
        let now =
            rows.into_iter().flatten().next().ok_or_else(|| Error::Internal("an epoch without a row".into()))??;
        let steps = (done + 1, done + now.steps);
        let losses = |row: &EpochRow| (row.task_loss, row.penalty);
        let retraced = Retraced { steps, stored: losses(before), now: losses(&now) };
        tell(epoch, &retraced);
        found.push(retraced);
        done = steps.1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_digit_is_a_difference() {
        let losses = (0.687_5, 0.25);
        let retraced = Retraced { steps: (1, 8), stored: losses, now: losses };
        assert!(retraced.is_equal());
        let other = Retraced { now: (losses.0.next_up(), losses.1), ..retraced };
        assert!(!other.is_equal() && other.difference().0 > 0.0);
        let penalty = Retraced { now: (losses.0, 0.5), ..retraced };
        assert!(!penalty.is_equal());
    }
}
