//! The training loop. It names no method: whatever differs between methods lies behind [`methods::Method`].

use std::collections::BTreeSet;

use tch::{Device, Tensor};

use crate::env::clock::Clock;
use crate::error::Result;
use crate::load::backbone::Backbone;
use crate::load::task_data::TokenizedTask;
use crate::plan::spec::RunSpec;
use crate::store::rows::{EpochRow, StepRow};
use crate::train::epoch_losses::{EpochCost, EpochLosses};
use crate::train::graph_recorder::{Captures, StepRunner, runner};
use crate::train::loader::Loader;
use crate::train::memory::peak_memory;
use crate::train::parts::Parts;
use crate::train::run_stack::RunStack;
use crate::train::step_log::StepLog;

/// A stack of runs, its batches, and how its steps are taken.
pub struct Trainer<'a> {
    stack: RunStack<'a>,
    loader: Loader<'a>,
    runner: Box<dyn StepRunner>,
    progress: EpochProgress,
    log: Option<StepLog>,
}

/// Continuation after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next step.
    Continue,
    /// The caller: the epoch goes on when it is asked for again.
    Leave,
}

/// A place in an epoch: how much of it was trained, and what that came to.
pub struct EpochProgress {
    /// Epoch, from 1; 0 before the first.
    pub epoch: usize,
    /// Sums over its steps.
    pub losses: EpochLosses,
    /// Seconds of training in it.
    pub seconds: f64,
    /// Captures in it.
    pub captures: Captures,
}

impl EpochProgress {
    /// Before the first step of an epoch.
    pub fn new(epoch: usize, runs: usize, device: Device) -> Self {
        EpochProgress { epoch, losses: EpochLosses::new(runs, device), seconds: 0.0, captures: Captures::default() }
    }

    /// Steps taken in it.
    pub fn steps(&self) -> usize {
        self.losses.steps()
    }
}

impl<'a> Trainer<'a> {
    /// Runs that share their steps, at their start values. `micro_batch` is the size of parts at which an earlier start had
    /// arrived.
    ///
    /// # Errors
    /// As [`RunStack::new`].
    pub fn new(
        specs: &[&'a RunSpec],
        backbone: &Backbone,
        data: &'a TokenizedTask,
        micro_batch: Option<usize>,
    ) -> Result<Self> {
        let mut stack = RunStack::new(specs, backbone, data)?;
        *stack.parts_mut() = Parts::new(backbone.micro_batch, micro_batch);
        let loader = stack.loader();
        let runner = runner(backbone.graphs);
        let progress = EpochProgress::new(0, stack.runs(), stack.device());
        Ok(Trainer { stack, loader, runner, progress, log: None })
    }

    /// The trainer with rows for `steps.csv`.
    pub fn with_log(self, log: StepLog) -> Self {
        Trainer { log: Some(log), ..self }
    }

    /// The runs.
    pub fn stack(&self) -> &RunStack<'a> {
        &self.stack
    }

    /// The batches.
    pub fn loader(&self) -> &Loader<'a> {
        &self.loader
    }

    /// Trains an epoch, from 1, on from where the trainer stands in it, and gives a row for each run; none where `after_step` left
    /// the loop. `seconds` of stacked runs are an equal share of the whole. `after_step` gets the running clock: work that must
    /// not count is done in a pause of it, or after leaving.
    ///
    /// # Errors
    /// As `after_step`; for one run, a loss that is not finite.
    pub fn epoch(
        &mut self,
        epoch: usize,
        after_step: &mut dyn FnMut(&RunStack, &mut Clock) -> Result<Next>,
    ) -> Result<Option<Vec<Result<EpochRow>>>> {
        if self.progress.epoch != epoch {
            self.progress = EpochProgress::new(epoch, self.stack.runs(), self.stack.device());
        }
        let before = self.runner.captures();
        let mut clock = Clock::resume(self.stack.device(), self.progress.seconds)?;
        let mut next = Ok(Next::Continue);
        for step in self.loader.epoch(epoch, self.progress.steps()) {
            let values = self.runner.run(&mut self.stack, &step.batch)?;
            self.progress.losses.add(&step, &values);
            if let Some(log) = &mut self.log {
                log.add(&self.stack, &values);
            }
            next = after_step(&self.stack, &mut clock);
            if !matches!(next, Ok(Next::Continue)) {
                break;
            }
        }
        self.progress.seconds = clock.stop()?;
        let captures = self.runner.captures();
        self.progress.captures.count += captures.count - before.count;
        self.progress.captures.seconds += captures.seconds - before.seconds;
        match next? {
            // Left after the last step: the epoch is done when it is asked for again.
            Next::Leave => Ok(None),
            Next::Continue => self.rows().map(Some),
        }
    }

    /// Ends a stage of the method's schedule.
    pub fn end_stage(&mut self) {
        self.stack.end_stage();
    }

    /// The rows of the epoch that was trained.
    fn rows(&self) -> Result<Vec<Result<EpochRow>>> {
        let runs = self.stack.runs() as f64;
        let EpochProgress { epoch, losses, seconds, captures } = &self.progress;
        let cost = EpochCost {
            seconds: seconds / runs,
            peak: peak_memory(self.stack.device())?,
            captures: captures.count,
            capture_seconds: captures.seconds / runs,
        };
        let row = |run| losses.row(run, *epoch, &cost, self.stack.train(run).lr);
        Ok((0..self.stack.runs()).map(row).collect())
    }

    /// Rows of `steps.csv` of a run since [`Trainer::take_logged`].
    ///
    /// # Errors
    /// A failure on the device.
    pub fn logged(&self, run: usize) -> Result<Vec<StepRow>> {
        self.log.as_ref().map_or(Ok(Vec::new()), |log| log.rows(run))
    }

    /// The same of every run, which are then the caller's.
    ///
    /// # Errors
    /// A failure on the device.
    pub fn take_logged(&mut self) -> Result<Vec<Vec<StepRow>>> {
        let rows = (0..self.stack.runs()).map(|run| self.logged(run)).collect::<Result<_>>()?;
        self.log.iter_mut().for_each(StepLog::clear);
        Ok(rows)
    }

    /// Where the trainer stands.
    pub fn progress(&self) -> &EpochProgress {
        &self.progress
    }

    /// Goes on from states of the runs and a place in an epoch.
    ///
    /// # Errors
    /// States of other runs.
    pub fn resume(&mut self, states: &[Vec<(String, Tensor)>], progress: EpochProgress) -> Result<()> {
        self.stack.load(states)?;
        self.progress = progress;
        Ok(())
    }

    /// Takes one step of every kind that the run will have (shapes of its batches, phases of its method) and takes it back: values,
    /// optimisers and random numbers are as before, and what a first step makes (captures, caches, memory) is there. Of one run.
    ///
    /// # Errors
    /// As a step.
    pub fn warm_up(&mut self) -> Result<()> {
        let before = self.stack.states();
        let mut seen = BTreeSet::new();
        for (t, (shape, batch)) in self.loader.shapes().enumerate() {
            if seen.insert((shape, self.stack.state(0).method().phase(t))) {
                for _ in 0..self.runner.steps_to_warm_up() {
                    self.stack.go_to(t)?;
                    for batch in self.loader.upload(&batch) {
                        self.runner.run(&mut self.stack, &batch)?;
                    }
                }
            }
        }
        self.stack.load(&before)
    }

    /// Parts of the method's schedule that the steps of an epoch (from 1) lie in, e.g. `full budget → falling budget`.
    pub fn schedule_parts(&self, epoch: usize) -> String {
        let steps = self.loader.steps();
        let method = self.stack.state(0).method();
        let mut parts: Vec<&str> = ((epoch - 1) * steps..epoch * steps).map(|t| method.schedule_part(t)).collect();
        parts.dedup();
        parts.join(" → ")
    }
}
