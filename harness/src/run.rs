//! A run, or several side by side: train, evaluate, choose checkpoints, store.

use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use datasets::tokenizer::Encoded;
use methods::Step;
use methods::method::ranks;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::forward::{Predicted, scores};
use crate::health;
use crate::inputs::{DevData, Inputs, TaskData};
use crate::manifest::manifest;
use crate::progress::Progress;
use crate::record::{DevSetResult, EpochRow, EvalRow, Outcome, Parameters, PredictionRow, RankRow};
use crate::select::{Checkpoint, Scored, Track};
use crate::spec::{EvaluateEvery, RunSpec};
use crate::store::RunDir;
use crate::train::Trainer;

/// What a run is done with.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// The backbone.
    pub inputs: &'a Inputs,
    /// Shown while it goes on.
    pub progress: &'a Progress,
    /// Set by Ctrl-C.
    pub stop: &'a AtomicBool,
}

/// A run and where it is stored.
pub type Stored<'a> = (&'a RunSpec, &'a RunDir);

/// Makes runs that differ in their seed only, side by side, and stores each as it goes on; `DONE` is written last. A run
/// that fails does not take the others with it: where they share a product, a value that is not finite may reach all of them
/// (ADR 0020), so those that failed side by side are made again by themselves.
///
/// # Errors
/// Of all of them: options that do not fit, a file that cannot be written, Ctrl-C. Of one: a loss that is not finite.
pub fn run(runs: &[Stored], data: &TaskData, bench: Bench) -> Result<Vec<Result<Outcome>>> {
    let made = side_by_side(runs, data, bench)?;
    if runs.len() == 1 {
        return Ok(made);
    }
    let mended = |(outcome, run): (Result<Outcome>, &Stored)| match outcome {
        Ok(outcome) => Ok(vec![Ok(outcome)]),
        Err(error) => {
            bench.progress.say(&format!("failed side by side, now by itself: {error}"));
            side_by_side(slice::from_ref(run), data, bench)
        }
    };
    Ok(made.into_iter().zip(runs).map(mended).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn side_by_side(runs: &[Stored], data: &TaskData, bench: Bench) -> Result<Vec<Result<Outcome>>> {
    let started = Instant::now();
    for (_, dir) in runs {
        dir.write_json("manifest.json", &manifest(bench.inputs, data, runs.len(), dir.previous_manifest()))?;
    }
    let specs: Vec<&RunSpec> = runs.iter().map(|(spec, _)| *spec).collect();
    let mut trainer = Trainer::new(&specs, bench.inputs, data)?;
    let mut watches: Vec<Watch> =
        runs.iter().enumerate().map(|(index, &stored)| Watch::new(index, stored, data, bench)).collect();
    for epoch in 1..=specs.first().map_or(0, |spec| spec.train.epochs) {
        let rows = trainer.epoch(epoch, &mut |trainer, clock| {
            watches.iter_mut().try_for_each(|watch| watch.after_step(trainer, clock))
        })?;
        for (watch, row) in watches.iter_mut().zip(rows) {
            watch.after_epoch(&trainer, row)?;
        }
        if watches.iter().all(|watch| watch.failed.is_some()) {
            break;
        }
    }
    watches.into_iter().map(|watch| conclude(&trainer, watch, started)).map(separated).collect()
}

/// What ends everything, and what only one run ends with.
fn separated<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(error) if error.ends_the_sweep() => Err(error),
        result => Ok(result),
    }
}

/// Everything seen of a run so far.
struct Watch<'a> {
    index: usize,
    spec: &'a RunSpec,
    data: &'a TaskData,
    dir: &'a RunDir,
    bench: Bench<'a>,
    tracks: Vec<Track>,
    epochs: Vec<EpochRow>,
    evals: Vec<EvalRow>,
    ranks: Vec<RankRow>,
    /// What the run ended with before its last step.
    failed: Option<Error>,
}

impl<'a> Watch<'a> {
    fn new(index: usize, (spec, dir): Stored<'a>, data: &'a TaskData, bench: Bench<'a>) -> Self {
        let tracks = data.dev_sets.iter().map(|set| Track::new(set.name)).collect();
        let (epochs, evals, ranks) = (Vec::new(), Vec::new(), Vec::new());
        Watch { index, spec, data, dir, bench, tracks, epochs, evals, ranks, failed: None }
    }

    /// Goes on with the rest where only this run came to an end.
    fn survive(&mut self, result: Result<()>) -> Result<()> {
        self.failed = separated(result)?.err();
        Ok(())
    }

    fn after_epoch(&mut self, trainer: &Trainer, row: Result<EpochRow>) -> Result<()> {
        if self.failed.is_some() {
            return Ok(());
        }
        let result = row.and_then(|row| {
            let is_last = row.epoch == self.spec.train.epochs;
            let is_due = self.is_due_after(row.epoch);
            self.epochs.push(row);
            self.dir.write_rows("epochs.csv", &self.epochs)?;
            if is_due || (is_last && self.evals.is_empty()) { self.evaluate(trainer) } else { Ok(()) }
        });
        self.survive(result)
    }

    fn after_step(&mut self, trainer: &Trainer, clock: &mut Clock) -> Result<()> {
        if self.bench.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        self.bench.progress.step();
        match self.spec.train.evaluate {
            EvaluateEvery::Steps(every)
                if self.failed.is_none() && trainer.step(self.index).done().is_multiple_of(every.max(1)) =>
            {
                clock.pause(|| {
                    let result = self.evaluate(trainer);
                    self.survive(result)
                })
            }
            _ => Ok(()),
        }
    }

    fn is_due_after(&self, epoch: usize) -> bool {
        matches!(self.spec.train.evaluate, EvaluateEvery::Epochs(every) if epoch.is_multiple_of(every.max(1)))
    }

    /// Metrics on validation and test of every development set, ranks of every site, and a place among the checkpoints.
    fn evaluate(&mut self, trainer: &Trainer) -> Result<()> {
        let trained = trainer.step(self.index);
        let step = trained.done();
        let effective = trained.method().counts(trained.params()).effective;
        let steps_an_epoch = self.data.train.len().div_ceil(self.spec.train.batch_size);
        let epoch = step as f64 / steps_an_epoch as f64;
        let mut said = Vec::new();
        for (set, track) in self.data.dev_sets.iter().zip(&mut self.tracks) {
            let mut scored = Vec::new();
            for (split, rows) in splits(set) {
                let Predicted { values: predictions, loss, .. } = trainer.predict(self.index, rows)?;
                let metrics = scores(self.data.task, rows, &predictions)?;
                let row = |(metric, value): (String, f64)| {
                    let (split, dev_set) = (split.to_string(), set.name.to_string());
                    EvalRow { step, epoch, split, dev_set, metric, value, effective_parameters: effective }
                };
                self.evals.extend(metrics.iter().cloned().chain([("loss".into(), loss)]).map(row));
                scored.push(Scored { split, predictions, metrics });
            }
            let (name, value) = selection(self.data, &scored)?;
            said.push(format!("{} {name} {:.2}", set.name, 100.0 * value));
            track.offer(step, value, scored, || trained.params().state());
        }
        self.ranks.extend(ranks(trained.method(), trained.params()).into_iter().map(|site| RankRow {
            step,
            site: site.site,
            layer: site.layer,
            kind: site.kind.name().into(),
            rank: site.rank,
            max_rank: site.max_rank,
            mean_abs_gate: site.mean_abs_gate,
        }));
        self.dir.write_rows("evals.csv", &self.evals)?;
        self.dir.write_rows("ranks.csv", &self.ranks)?;
        self.bench.progress.say(&format!("epoch {epoch:.2}: validation {}", said.join(", ")));
        Ok(())
    }
}

const VALIDATION: &str = "validation";
const TEST: &str = "test";

/// The splits that are evaluated; the official policy has only one.
fn splits(set: &DevData) -> Vec<(&'static str, &[Encoded])> {
    let validation = (VALIDATION, set.validation.as_slice());
    if set.is_one_set { vec![validation] } else { vec![validation, (TEST, set.test.as_slice())] }
}

/// Name and value of the selection metric on the validation split, which is the first.
fn selection(data: &TaskData, scored: &[Scored]) -> Result<(String, f64)> {
    let name = data.task.selection_metric.name();
    let found = scored.first().and_then(|s| s.metrics.iter().find(|(metric, _)| metric == name).cloned());
    found
        .ok_or_else(|| Error::Internal(format!("task {} does not compute its selection metric {name}", data.task.name)))
}

/// What was scored at the selected checkpoint of each development set; counts and export at the first one's, which
/// stands for the run where a task has two.
fn conclude(trainer: &Trainer, watch: Watch, started: Instant) -> Result<Outcome> {
    let Watch { index, data, dir, bench, tracks, epochs, failed, .. } = watch;
    if let Some(error) = failed {
        return Err(error);
    }
    let steps = trainer.step(index).done();
    let mut results = Vec::new();
    let mut predictions: Vec<PredictionRow> = Vec::new();
    let mut collapse: Vec<String> = health::stuck(&epochs).into_iter().collect();
    for (set, track) in data.dev_sets.iter().zip(&tracks) {
        let best = selected(track)?;
        let reported = best.scored.last().ok_or_else(|| Error::Internal("nothing was scored".into()))?;
        collapse.extend(health::signs(set.name, &reported.predictions, &reported.metrics));
        predictions.extend(best.scored.iter().flat_map(|scored| prediction_rows(set, scored)));
        results.push(DevSetResult {
            dev_set: set.name.into(),
            selected_step: best.step,
            selection_metric: data.task.selection_metric.name().into(),
            selection_value: best.value,
            test: reported.metrics.clone(),
            test_examples: set.test.len(),
        });
    }
    let first = tracks.first().ok_or_else(|| Error::Internal(format!("task {} has no dev set", data.task.name)))?;
    trainer.restore(index, &selected(first)?.state)?;
    export(trainer, index, bench.inputs, dir)?;
    dir.write_rows("predictions.csv", &predictions)?;
    let parameters = count(trainer.step(index), bench.inputs, data);
    let outcome = Outcome { results, parameters, steps, wall_seconds: started.elapsed().as_secs_f64(), collapse };
    dir.finish(&outcome)?;
    Ok(outcome)
}

fn selected(track: &Track) -> Result<&Checkpoint> {
    let none = || Error::Internal(format!("no evaluation on {} took place", track.dev_set));
    track.best.as_ref().ok_or_else(none)
}

fn prediction_rows(set: &DevData, scored: &Scored) -> Vec<PredictionRow> {
    let rows = if scored.split == VALIDATION { &set.validation } else { &set.test };
    let row = |(row, prediction): (&Encoded, &f64)| PredictionRow {
        split: scored.split.into(),
        dev_set: set.name.into(),
        row: row.row,
        label: row.label,
        prediction: *prediction,
    };
    rows.iter().zip(&scored.predictions).map(row).collect()
}

fn count(step: &Step, inputs: &Inputs, data: &TaskData) -> Parameters {
    let params = step.params();
    let counts = step.method().counts(params);
    Parameters {
        allocated: counts.allocated,
        effective: counts.effective,
        as_published: counts.as_published,
        head: params.numel() - counts.allocated,
        full: inputs.encoder.parameter_count(data.task.labels.outputs() as i64),
    }
}

/// Writes `adapter/` in PEFT's layout.
fn export(trainer: &Trainer, run: usize, inputs: &Inputs, dir: &RunDir) -> Result<()> {
    let exported = trainer.exported(run);
    dir.write_json("adapter/adapter_config.json", &exported.config(&inputs.backbone.name))?;
    dir.write("adapter/adapter_model.safetensors", &exported.weights()?)
}
