//! Length of a run and the settings of its optimisers.

use methods::OptimConfig;
use methods::optim::config::{LinearSchedule, Restart};

use crate::plan::spec::{EvaluateEvery, StageRate, TrainSpec};

/// Steps of a run: those that are taken in all its stages, and those the learning-rate schedule of its first stage counts.
///
/// The release divides without rounding up (`epochs * rows / batch`, truncated), so with a short last batch the rate
/// reaches 0 before the last step (spec §3.2).
pub fn lengths(train: &TrainSpec, rows: usize) -> (usize, usize) {
    let taken = all_epochs(train) * rows.div_ceil(train.batch_size);
    (taken, scheduled(train, train.epochs, rows))
}

/// Epochs of all stages.
pub fn all_epochs(train: &TrainSpec) -> usize {
    train.epochs + train.stages.map_or(0, |stages| (stages.count - 1) * stages.epochs)
}

/// Stage (from 0) of an epoch (from 1), and whether the epoch is its last.
pub fn stage_of(train: &TrainSpec, epoch: usize) -> (usize, bool) {
    match train.stages {
        Some(stages) if epoch > train.epochs => {
            let later = epoch - train.epochs;
            (later.div_ceil(stages.epochs), later.is_multiple_of(stages.epochs))
        }
        _ => (0, epoch == train.epochs),
    }
}

/// Evaluations of a run, those at the ends of stages among them.
pub fn evaluations(train: &TrainSpec, rows: usize) -> usize {
    let first = match train.evaluate {
        EvaluateEvery::Epochs(every) => train.epochs / every,
        EvaluateEvery::Steps(every) => train.epochs * rows.div_ceil(train.batch_size) / every,
    };
    first.max(1) + train.stages.map_or(0, |stages| stages.count)
}

/// Epochs times rows by batch, truncated.
fn scheduled(train: &TrainSpec, epochs: usize, rows: usize) -> usize {
    (epochs as f64 * rows as f64 / train.batch_size as f64) as usize
}

/// Optimiser settings of a run: warm-up rounded up for weights and down for gates, as released.
pub fn optim_config(train: &TrainSpec, rows: usize) -> OptimConfig {
    let (steps, _) = lengths(train, rows);
    OptimConfig {
        lr: train.lr,
        weight_decay: train.weight_decay,
        decay_order: train.decay_order,
        max_grad_norm: train.max_grad_norm,
        steps,
        schedule: schedule(train, rows, f64::ceil),
        gate_schedule: schedule(train, rows, f64::floor),
    }
}

/// Schedule over all stages; `rounded` makes a whole number of the steps of a warm-up.
fn schedule(train: &TrainSpec, rows: usize, rounded: fn(f64) -> f64) -> LinearSchedule {
    let warmup = |total: usize| rounded(train.warmup_ratio * total as f64) as usize;
    let total = scheduled(train, train.epochs, rows);
    let steps_an_epoch = rows.div_ceil(train.batch_size);
    let restart = train.stages.filter(|stages| stages.rate == StageRate::Rewarm).map(|stages| {
        let total = scheduled(train, stages.epochs, rows);
        let (first, every) = (train.epochs * steps_an_epoch, stages.epochs * steps_an_epoch);
        Restart { first, every, warmup: warmup(total), total }
    });
    LinearSchedule { warmup: warmup(total), total, restart }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::spec::{Order, Stages, tests::train_spec};

    fn staged(rate: StageRate) -> TrainSpec {
        let stages = Some(Stages { count: 3, epochs: 2, rate });
        TrainSpec { epochs: 3, warmup_ratio: 0.5, stages, ..train_spec(5, Order::Random) }
    }

    #[test]
    fn stages_follow_the_first() {
        // 10 rows in batches of 5: 6 steps in the first stage, 4 in each of the two others.
        let spec = staged(StageRate::Released);
        assert_eq!((lengths(&spec, 10), all_epochs(&spec)), ((14, 6), 7));
        let found: Vec<(usize, bool)> = (1..=7).map(|epoch| stage_of(&spec, epoch)).collect();
        assert_eq!(found, [(0, false), (0, false), (0, true), (1, false), (1, true), (2, false), (2, true)]);
        assert_eq!(stage_of(&TrainSpec { stages: None, ..spec }, 3), (0, true));
    }

    #[test]
    fn evaluations_are_counted_as_they_are_made() {
        let of = |evaluate, stages| {
            let spec = TrainSpec { epochs: 5, evaluate, stages, ..train_spec(4, Order::Random) };
            evaluations(&spec, 10)
        };
        assert_eq!(of(EvaluateEvery::Epochs(1), None), 5);
        assert_eq!(of(EvaluateEvery::Epochs(2), None), 2);
        // 5 epochs of 3 steps.
        assert_eq!(of(EvaluateEvery::Steps(4), None), 3);
        assert_eq!(of(EvaluateEvery::Steps(1000), None), 1, "a run without one is evaluated at its end");
        assert_eq!(of(EvaluateEvery::Epochs(1), staged(StageRate::Released).stages), 8);
    }

    #[test]
    fn the_rate_of_later_stages_is_0_as_released_or_warms_up_anew() {
        let rates = |rate| {
            let schedule = optim_config(&staged(rate), 10).schedule;
            (0..14).map(|t| schedule.factor(t)).collect::<Vec<_>>()
        };
        let released = rates(StageRate::Released);
        assert!(released[6..].iter().all(|rate| *rate == 0.0) && released[3] == 1.0, "{released:?}");
        let rewarm = rates(StageRate::Rewarm);
        assert_eq!(rewarm[..6], released[..6]);
        assert_eq!(rewarm[6..], [0.0, 0.5, 1.0, 0.5, 0.0, 0.5, 1.0, 0.5]);
    }

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
