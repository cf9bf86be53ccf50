//! Checkpoints of the runs of a stack: when they are written, and how runs go on from them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tch::Tensor;

use crate::error::{Error, Result};
use crate::train::callbacks::RunCallback;
use crate::train::checkpoint::{BestProgress, FORMAT, Progress, RunCheckpoint};
use crate::train::context::StoredRun;
use crate::train::epoch_losses::{EpochLosses, RunSums};
use crate::train::graph_recorder::Captures;
use crate::train::traces::STEPS;
use crate::train::trainer::{EpochProgress, Trainer};

/// Writing takes at most one part in so many of the time.
const SHARE: u32 = 100;

/// Writes the checkpoints of a stack of runs.
pub struct Checkpointer {
    every: Duration,
    last: Instant,
    /// Time that the last checkpoint took.
    cost: Duration,
}

impl Checkpointer {
    /// Writes `every` so often, or less where that would cost more than 1 % of the time.
    pub fn new(every: Duration) -> Self {
        Checkpointer { every, last: Instant::now(), cost: Duration::ZERO }
    }

    /// Whether a checkpoint is due.
    pub fn is_due(&self) -> bool {
        self.last.elapsed() >= self.every.max(if self.every.is_zero() { Duration::ZERO } else { self.cost * SHARE })
    }

    /// Writes a checkpoint of every run that has not failed; `wall_seconds` are those of the stack so far.
    ///
    /// # Errors
    /// A file that cannot be written, a failure on the device.
    pub fn save(&mut self, trainer: &Trainer, callbacks: &[RunCallback], wall_seconds: f64) -> Result<()> {
        let started = Instant::now();
        let EpochProgress { epoch, losses, seconds, captures } = trainer.progress();
        let runs = callbacks.len() as f64;
        for (callback, state) in callbacks.iter().zip(trainer.stack().states()) {
            if callback.failed.is_some() {
                continue;
            }
            let progress = Progress {
                format: FORMAT,
                threads: i64::from(tch::get_num_threads()),
                epoch: *epoch,
                sums: losses.of_run(callback.index),
                seconds: seconds / runs,
                captures: (captures.count, captures.seconds / runs),
                wall_seconds: wall_seconds / runs,
                evaluation_seconds: callback.evaluation_seconds,
                epochs: callback.epochs.clone(),
                evals: callback.evals.clone(),
                ranks: callback.ranks.clone(),
                stages: callback.stages.clone(),
                steps: callback.steps.iter().cloned().chain(trainer.logged(callback.index)?).collect(),
                gates: callback.gates.clone(),
                best: callback.best.iter().map(|set| set.best.as_ref().map(BestProgress::of)).collect(),
            };
            // For whoever looks at a run in work.
            if !progress.steps.is_empty() {
                callback.dir.write_rows(STEPS, &progress.steps)?;
            }
            let values = |groups: &Vec<(String, Tensor)>| {
                groups.iter().map(|(name, value)| (name.clone(), value.shallow_clone())).collect()
            };
            let best = callback.best.iter().map(|set| set.best.as_ref().map_or(Vec::new(), |best| values(&best.state)));
            let checkpoint = RunCheckpoint { progress, state, best: best.collect() };
            callback.dir.save_checkpoint(&checkpoint.to_bytes()?)?;
        }
        self.cost = started.elapsed();
        self.last = Instant::now();
        Ok(())
    }
}

/// The checkpoint of each run, and a word on each that cannot be used.
pub fn checkpoints(runs: &[StoredRun], say: &dyn Fn(&str)) -> Vec<Option<RunCheckpoint>> {
    let read = |(spec, dir): &StoredRun| {
        let read = RunCheckpoint::from_bytes(&dir.checkpoint()?);
        read.map_err(|e| say(&format!("{}: its checkpoint cannot be used ({e}); the run starts anew", spec.id()))).ok()
    };
    runs.iter().map(read).collect()
}

/// Number of a run in its stack, and its checkpoint.
type Numbered = (usize, Option<RunCheckpoint>);

/// Runs that can go on as a stack, by their numbers and with their checkpoints: all at one step, or all at the first.
pub fn at_one_place(found: Vec<Option<RunCheckpoint>>) -> Vec<Vec<Numbered>> {
    let mut places: BTreeMap<Option<(usize, usize)>, Vec<Numbered>> = BTreeMap::new();
    for (run, found) in found.into_iter().enumerate() {
        let place = found.as_ref().map(|found| (found.progress.epoch, found.progress.sums.steps));
        places.entry(place).or_default().push((run, found));
    }
    places.into_values().collect()
}

/// Sets trainer and callbacks to the checkpoints, and gives the wall seconds they stand for.
///
/// # Errors
/// A checkpoint of another run.
pub fn resume(trainer: &mut Trainer, callbacks: &mut [RunCallback], found: Vec<RunCheckpoint>) -> Result<f64> {
    let runs = found.len() as f64;
    let sums: Vec<RunSums> = found.iter().map(|checkpoint| checkpoint.progress.sums).collect();
    let Some(first) = found.first() else { return Ok(0.0) };
    let total = |of: &dyn Fn(&Progress) -> f64| found.iter().map(|checkpoint| of(&checkpoint.progress)).sum::<f64>();
    let progress = EpochProgress {
        epoch: first.progress.epoch,
        losses: EpochLosses::resume(&sums, trainer.stack().device()),
        seconds: total(&|progress| progress.seconds),
        captures: Captures { count: first.progress.captures.0, seconds: first.progress.captures.1 * runs },
    };
    let wall_seconds = total(&|progress| progress.wall_seconds);
    let (threads, now) = (first.progress.threads, i64::from(tch::get_num_threads()));
    let (states, seen): (Vec<_>, Vec<_>) =
        found.into_iter().map(|RunCheckpoint { progress, state, best }| (state, (progress, best))).unzip();
    trainer.resume(&states, progress)?;
    for (callback, (progress, best)) in callbacks.iter_mut().zip(seen) {
        if best.len() != callback.best.len() {
            return Err(Error::Internal("a checkpoint of another task".into()));
        }
        callback.restore(progress, best);
        if threads != now {
            callback.context.progress.say(&format!(
                "resumed with {now} threads, begun with {threads}: rounding differs; OMP_NUM_THREADS={threads} repeats it exactly"
            ));
        }
    }
    Ok(wall_seconds)
}
