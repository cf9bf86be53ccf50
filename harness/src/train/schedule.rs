//! Length of a run and the settings of its optimisers.

use methods::OptimConfig;
use methods::optim::config::LinearSchedule;

use crate::plan::spec::TrainSpec;

/// Steps of a run: those that are taken, and those the learning-rate schedule counts.
///
/// The release divides without rounding up (`epochs * rows / batch`, truncated), so with a short last batch the rate
/// reaches 0 before the last step (spec §3.2).
pub fn lengths(train: &TrainSpec, rows: usize) -> (usize, usize) {
    let taken = train.epochs * rows.div_ceil(train.batch_size);
    let scheduled = (train.epochs as f64 * rows as f64 / train.batch_size as f64) as usize;
    (taken, scheduled)
}

/// Optimiser settings of a run: warm-up rounded up for weights and down for gates, as released.
pub fn optim_config(train: &TrainSpec, rows: usize) -> OptimConfig {
    let (steps, total) = lengths(train, rows);
    let warmup = train.warmup_ratio * total as f64;
    OptimConfig {
        lr: train.lr,
        weight_decay: train.weight_decay,
        decay_order: train.decay_order,
        max_grad_norm: train.max_grad_norm,
        steps,
        schedule: LinearSchedule { warmup: warmup.ceil() as usize, total },
        gate_schedule: LinearSchedule { warmup: warmup as usize, total },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::spec::{Order, tests::train_spec};

    #[test]
    fn steps_follow_the_release() {
        // 10 rows in batches of 4 over 3 epochs: 9 steps are taken, the schedule counts 7 (spec §3.2).
        let spec = TrainSpec { epochs: 3, ..train_spec(4, Order::Random) };
        assert_eq!(lengths(&spec, 10), (9, 7));
    }

    #[test]
    fn warm_up_is_rounded_up_for_weights_and_down_for_gates() {
        let spec = TrainSpec { epochs: 3, warmup_ratio: 0.5, ..train_spec(4, Order::Random) };
        let config = optim_config(&spec, 10);
        assert_eq!((config.schedule.warmup, config.gate_schedule.warmup), (4, 3));
        assert_eq!((config.steps, config.schedule.total), (9, 7));
    }
}
