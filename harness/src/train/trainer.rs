//! The training loop. It names no method: whatever differs between methods lies behind [`methods::Method`].

use std::collections::BTreeSet;

use crate::env::clock::Clock;
use crate::error::Result;
use crate::load::inputs::{Inputs, TaskData};
use crate::plan::spec::RunSpec;
use crate::store::rows::EpochRow;
use crate::train::epoch_losses::{EpochCost, EpochLosses};
use crate::train::graph_recorder::{Eager, GraphRecorder, StepRunner};
use crate::train::loader::Loader;
use crate::train::memory::peak_memory;
use crate::train::run_stack::RunStack;

/// A stack of runs, its batches, and how its steps are taken.
pub struct Trainer<'a> {
    stack: RunStack<'a>,
    loader: Loader<'a>,
    runner: Box<dyn StepRunner>,
}

impl<'a> Trainer<'a> {
    /// Runs that differ in their seed only, at their start values.
    ///
    /// # Errors
    /// As [`RunStack::new`].
    pub fn new(specs: &[&'a RunSpec], inputs: &Inputs, data: &'a TaskData) -> Result<Self> {
        let stack = RunStack::new(specs, inputs, data)?;
        let loader = stack.loader();
        let runner: Box<dyn StepRunner> =
            if inputs.graphs { Box::new(GraphRecorder::default()) } else { Box::new(Eager) };
        Ok(Trainer { stack, loader, runner })
    }

    /// The runs.
    pub fn stack(&self) -> &RunStack<'a> {
        &self.stack
    }

    /// The batches.
    pub fn loader(&self) -> &Loader<'a> {
        &self.loader
    }

    /// Trains one epoch, from 1, and gives a row for each run; `seconds` of stacked runs are an equal share of the whole.
    /// `after_step` gets the running clock: work that must not count is done in a pause of it.
    ///
    /// # Errors
    /// As `after_step`; for one run, a loss that is not finite.
    pub fn epoch(
        &mut self,
        epoch: usize,
        after_step: &mut dyn FnMut(&RunStack, &mut Clock) -> Result<()>,
    ) -> Result<Vec<Result<EpochRow>>> {
        let before = self.runner.captures();
        let mut losses = EpochLosses::new(self.stack.runs(), self.stack.device());
        let mut clock = Clock::start(self.stack.device())?;
        for step in self.loader.epoch(epoch) {
            let step_losses = self.runner.run(&mut self.stack, &step.batch)?;
            losses.add(&step, step_losses);
            after_step(&self.stack, &mut clock)?;
        }
        let runs = self.stack.runs() as f64;
        let seconds = clock.stop()? / runs;
        let peak = peak_memory(self.stack.device())?;
        let captures = self.runner.captures();
        let cost = EpochCost {
            seconds,
            peak,
            captures: captures.count - before.count,
            capture_seconds: (captures.seconds - before.seconds) / runs,
        };
        let row = |run| losses.row(run, epoch, &cost, self.stack.train().lr);
        Ok((0..self.stack.runs()).map(row).collect())
    }

    /// Takes one step of every kind that the run will have (shapes of its batches, phases of its method) and takes it back: values,
    /// optimisers and random numbers are as before, and what a first step makes (captures, caches, memory) is there. Of one run.
    ///
    /// # Errors
    /// As a step.
    pub fn warm_up(&mut self) -> Result<()> {
        let before = self.stack.snapshot();
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
