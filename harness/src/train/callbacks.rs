//! Work between the steps of a run: evaluation and its files.

use std::sync::atomic::Ordering;
use std::time::Instant;

use datasets::split::{TEST, VALIDATION};
use datasets::tokenizer::TokenizedExample;
use methods::method::ranks;
use tch::Tensor;

use crate::env::clock::Clock;
use crate::error::{Error, Result};
use crate::load::task_data::{TokenizedDevSet, TokenizedTask};
use crate::plan::spec::{EvaluateEvery, RunSpec};
use crate::store::leased_run::LeasedRun;
use crate::store::record::Manifest;
use crate::store::rows::{EpochRow, EvalRow, GateRow, RankRow, StageRow, StepRow};
use crate::train::best::{BestCheckpoint, Checkpoint, Scored};
use crate::train::checkpoint::{BestProgress, Progress};
use crate::train::context::{RunContext, StoredRun};
use crate::train::evaluate::{Predictions, scores};
use crate::train::run_stack::RunStack;

/// Everything seen of a run so far.
pub struct RunCallback<'a> {
    pub(super) index: usize,
    /// Its name among runs that share their steps, with a colon; empty for one by itself.
    pub(super) name: String,
    pub(super) spec: &'a RunSpec,
    pub(super) data: &'a TokenizedTask,
    pub(super) dir: &'a LeasedRun,
    pub(super) context: RunContext<'a>,
    pub(super) best: Vec<BestCheckpoint>,
    pub(super) epochs: Vec<EpochRow>,
    pub(super) evals: Vec<EvalRow>,
    pub(super) ranks: Vec<RankRow>,
    pub(super) stages: Vec<StageRow>,
    pub(super) steps: Vec<StepRow>,
    pub(super) gates: Vec<GateRow>,
    pub(super) evaluation_seconds: f64,
    /// Most rows of a part of a step, as the manifest has it.
    micro_batch: Option<usize>,
    /// The error that ended the run before its last step.
    pub(super) failed: Option<Error>,
}

impl<'a> RunCallback<'a> {
    /// Nothing seen yet, of run number `index` of its stack, where it is called `name`, and whose manifest has `micro_batch`.
    pub fn new(
        (index, name): (usize, String),
        (spec, dir): StoredRun<'a>,
        micro_batch: Option<usize>,
        data: &'a TokenizedTask,
        context: RunContext<'a>,
    ) -> Self {
        let best = data.dev_sets.iter().map(|set| BestCheckpoint::new(set.name)).collect();
        let (epochs, evals, ranks, stages, steps, gates) = Default::default();
        let (evaluation_seconds, failed) = (0.0, None);
        RunCallback {
            index,
            name,
            spec,
            data,
            dir,
            context,
            best,
            epochs,
            evals,
            ranks,
            stages,
            steps,
            gates,
            evaluation_seconds,
            micro_batch,
            failed,
        }
    }

    /// Goes on with the rest where only this run came to an end.
    pub(super) fn survive(&mut self, result: Result<()>) -> Result<()> {
        self.failed = separated(result)?.err();
        Ok(())
    }

    /// Takes back what a checkpoint holds; `values` are those of the best checkpoint of each development set.
    pub fn restore(&mut self, progress: Progress, values: Vec<Vec<(String, Tensor)>>) {
        let Progress { epochs, evals, ranks, stages, steps, gates, evaluation_seconds, best, .. } = progress;
        (self.epochs, self.evals, self.ranks, self.stages) = (epochs, evals, ranks, stages);
        (self.steps, self.gates) = (steps, gates);
        self.evaluation_seconds = evaluation_seconds;
        for ((set, best), state) in self.best.iter_mut().zip(best).zip(values) {
            set.best = best.map(|BestProgress { step, value, scored }| Checkpoint { step, value, scored, state });
        }
    }

    /// Evaluates where that is due and was not done, and keeps the epoch's row.
    ///
    /// # Errors
    /// An error that ends the sweep, a stop signal among them; one that ends this run alone is kept.
    pub fn after_epoch(&mut self, stack: &RunStack, row: Result<EpochRow>) -> Result<()> {
        let is_known = |row: &EpochRow| self.epochs.iter().any(|known| known.epoch == row.epoch);
        if self.failed.is_some() || row.as_ref().is_ok_and(is_known) {
            return Ok(());
        }
        let result = row.and_then(|row| {
            let is_last = row.epoch == self.spec.train.epochs;
            if self.is_due_after(row.epoch) || (is_last && self.evals.is_empty()) {
                self.evaluate(stack)?;
            }
            self.epochs.push(row);
            self.dir.write_rows("epochs.csv", &self.epochs)
        });
        self.survive(result)
    }

    /// Evaluates where that is due; `clock` is paused meanwhile.
    ///
    /// # Errors
    /// As [`RunCallback::after_epoch`].
    pub fn after_step(&mut self, stack: &RunStack, clock: &mut Clock) -> Result<()> {
        self.context.progress.step();
        if self.failed.is_none() && stack.parts().rows() != self.micro_batch {
            let recorded = self.record_parts(stack.parts().rows());
            self.survive(recorded)?;
        }
        match self.is_due_at(stack.state(self.index).done()) {
            true => clock.pause(|| self.evaluate_if_due(stack)),
            false => Ok(()),
        }
    }

    /// Records that steps are taken in parts of so many rows from now on.
    fn record_parts(&mut self, rows: Option<usize>) -> Result<()> {
        self.micro_batch = rows;
        if let (0, Some(rows)) = (self.index, rows) {
            self.context
                .progress
                .say(&format!("out of memory: steps are taken in parts of at most {rows} rows from now on"));
        }
        match self.dir.manifest() {
            Some(manifest) => self.dir.write_manifest(&Manifest { micro_batch: rows, ..manifest }),
            None => Ok(()),
        }
    }

    /// Evaluates where that is due by steps and was not done: after a step, or on resuming where a stop signal came between the two.
    ///
    /// # Errors
    /// As [`RunCallback::after_epoch`].
    pub fn evaluate_if_due(&mut self, stack: &RunStack) -> Result<()> {
        match self.is_due_at(stack.state(self.index).done()) {
            true => {
                let result = self.evaluate(stack);
                self.survive(result)
            }
            false => Ok(()),
        }
    }

    /// Whether an evaluation by steps is due after so many, and not done.
    fn is_due_at(&self, done: usize) -> bool {
        let EvaluateEvery::Steps(every) = self.spec.train.evaluate else { return false };
        let is_done = self.evals.last().is_some_and(|row| row.step == done);
        self.failed.is_none() && done > 0 && done.is_multiple_of(every) && !is_done && self.stages.is_empty()
    }

    /// After the first stage, selection is over: a later one is evaluated at its end alone ([`crate::train::stages`]).
    fn is_due_after(&self, epoch: usize) -> bool {
        self.stages.is_empty()
            && matches!(self.spec.train.evaluate, EvaluateEvery::Epochs(every) if epoch.is_multiple_of(every))
    }

    /// Metrics on validation and test of every development set, ranks of every target module, and a place among the checkpoints.
    fn evaluate(&mut self, stack: &RunStack) -> Result<()> {
        let started = Instant::now();
        let trained = stack.state(self.index);
        let step = trained.done();
        let effective = trained.method().counts(trained.params()).effective;
        let steps_an_epoch = self.data.train.len().div_ceil(self.spec.train.batch_size);
        let epoch = step as f64 / steps_an_epoch as f64;
        // Nothing is kept before everything was scored: a stop signal leaves the run as it was.
        let (mut evals, mut of_sets) = (Vec::new(), Vec::new());
        for set in &self.data.dev_sets {
            let mut scored = Vec::new();
            for (split, rows) in splits(set) {
                if self.context.stop.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                let Predictions { values: predictions, loss, .. } = stack.predict(self.index, rows)?;
                let metrics = scores(self.data.task, rows, &predictions)?;
                let row = |(metric, value): (String, f64)| {
                    let (split, dev_set) = (split.to_string(), set.name.to_string());
                    EvalRow { step, epoch, split, dev_set, metric, value, effective_parameters: effective }
                };
                evals.extend(metrics.iter().cloned().chain([("loss".into(), loss)]).map(row));
                scored.push(Scored { split: split.into(), predictions, metrics });
            }
            of_sets.push((selection(self.data, &scored)?, scored));
        }
        self.evals.extend(evals);
        let mut said = Vec::new();
        for (((name, value), scored), best) in of_sets.into_iter().zip(&mut self.best) {
            said.push(format!("{} {name} {:.2}", best.dev_set, 100.0 * value));
            best.update(step, value, scored, || trained.params().state());
        }
        self.ranks.extend(ranks(trained.method(), trained.params()).into_iter().map(|module| RankRow {
            step,
            module: module.module,
            layer: module.layer,
            kind: module.kind.name().into(),
            rank: module.rank,
            max_rank: module.max_rank,
            mean_abs_gate: module.mean_abs_gate,
        }));
        self.dir.write_rows("evals.csv", &self.evals)?;
        self.dir.write_rows("ranks.csv", &self.ranks)?;
        self.context.progress.say(&format!("{}epoch {epoch:.2}: validation {}", self.name, said.join(", ")));
        self.evaluation_seconds += started.elapsed().as_secs_f64();
        Ok(())
    }
}

/// The splits that are evaluated; the official policy has only one.
fn splits(set: &TokenizedDevSet) -> Vec<(&'static str, &[TokenizedExample])> {
    let validation = (VALIDATION, set.validation.as_slice());
    if set.is_one_set { vec![validation] } else { vec![validation, (TEST, set.test.as_slice())] }
}

/// Name and value of the selection metric on the validation split, which is the first.
fn selection(data: &TokenizedTask, scored: &[Scored]) -> Result<(String, f64)> {
    let name = data.task.selection.name();
    let found = scored.first().and_then(|s| s.metrics.iter().find(|(metric, _)| metric == name).cloned());
    found
        .ok_or_else(|| Error::Internal(format!("task {} does not compute its selection metric {name}", data.task.name)))
}

/// Separates errors that end the sweep (outer `Err`) from those that end one run (inner `Err`).
pub fn separated<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(error) if error.ends_the_sweep() => Err(error),
        result => Ok(result),
    }
}
