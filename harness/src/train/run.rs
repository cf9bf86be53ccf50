//! A run, or several side by side: train, evaluate, choose checkpoints, store.

use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use datasets::tokenizer::Encoded;
use methods::TrainState;
use methods::method::ranks;

use crate::env::clock::Clock;
use crate::env::console::Progress;
use crate::error::{Error, Result};
use crate::load::inputs::{DevData, Inputs, TaskData};
use crate::plan::origin::RecipeRules;
use crate::plan::spec::{EvaluateEvery, RunSpec};
use crate::store::record::Manifest;
use crate::store::rows::{
    DevSetResult, EpochRow, EvalRow, Outcome, Parameters, PeakMiB, PredictionRow, RankRow, Seconds,
};
use crate::store::run_dir::RunDir;
use crate::train::best::{Checkpoint, Scored, Track};
use crate::train::classifier::{Predicted, scores};
use crate::train::collapse;
use crate::train::manifest::manifest;
use crate::train::trainer::Trainer;

/// Context shared by all runs of a sweep.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// The backbone.
    pub inputs: &'a Inputs,
    /// Recipe and rule of the runs, for their manifests.
    pub origin: &'a RecipeRules,
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
    let (loading, tokenising) = (bench.inputs.take_seconds(), data.seconds.take());
    // The memory of this run alone: what ran before it is given back first, and reading the backbone is no part of it.
    if let Some((spec, _)) = runs.first() {
        bench.inputs.encoder_in(spec.train.precision.kind())?;
    }
    torch_ext::device::reset_peak_memory(bench.inputs.device)?;
    for (spec, dir) in runs {
        let manifest = manifest(bench.inputs, data, runs.len(), dir.previous_manifest());
        dir.write_json("manifest.json", &Manifest { origin: bench.origin.of(&spec.method), ..manifest })?;
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
    let cost = Cost {
        runs: watches.len() as f64,
        started,
        before: loading + tokenising,
        seconds: Seconds {
            loading: loading + bench.inputs.take_seconds(),
            tokenising,
            evaluation: watches.iter().map(|watch| watch.evaluation_seconds).sum(),
            ..Seconds::default()
        },
        memory: PeakMiB::of(torch_ext::device::peak_memory(bench.inputs.device)?),
    };
    watches.into_iter().map(|watch| conclude(&trainer, watch, &cost)).map(separated).collect()
}

/// Cost that runs side by side have in common.
struct Cost {
    runs: f64,
    started: Instant,
    /// Seconds that reading took before `started`.
    before: f64,
    /// Loading, tokenising and evaluation, of all runs together.
    seconds: Seconds,
    memory: PeakMiB,
}

impl Cost {
    /// Wall seconds and their parts of a run that ends now: an equal share of what is common.
    fn of_run(&self, epochs: &[EpochRow], export: f64) -> (f64, Seconds) {
        let recording: f64 = epochs.iter().map(|epoch| epoch.recording_seconds).sum();
        let training = epochs.iter().map(|epoch| epoch.seconds).sum::<f64>() - recording;
        let wall = (self.before + self.started.elapsed().as_secs_f64()) / self.runs;
        let Seconds { loading, tokenising, evaluation, .. } = self.seconds;
        let [loading, tokenising, evaluation] = [loading, tokenising, evaluation].map(|seconds| seconds / self.runs);
        let parts = Seconds { loading, tokenising, recording, training, evaluation, export, other: 0.0 };
        (wall, parts.of_wall(wall))
    }
}

/// Separates errors that end the sweep (outer `Err`) from those that end one run (inner `Err`).
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
    evaluation_seconds: f64,
    /// The error that ended the run before its last step.
    failed: Option<Error>,
}

impl<'a> Watch<'a> {
    fn new(index: usize, (spec, dir): Stored<'a>, data: &'a TaskData, bench: Bench<'a>) -> Self {
        let tracks = data.dev_sets.iter().map(|set| Track::new(set.name)).collect();
        let (epochs, evals, ranks) = (Vec::new(), Vec::new(), Vec::new());
        let (evaluation_seconds, failed) = (0.0, None);
        Watch { index, spec, data, dir, bench, tracks, epochs, evals, ranks, evaluation_seconds, failed }
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

    /// Metrics on validation and test of every development set, ranks of every target module, and a place among the checkpoints.
    fn evaluate(&mut self, trainer: &Trainer) -> Result<()> {
        let started = Instant::now();
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
        self.bench.progress.say(&format!("epoch {epoch:.2}: validation {}", said.join(", ")));
        self.evaluation_seconds += started.elapsed().as_secs_f64();
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
fn conclude(trainer: &Trainer, watch: Watch, cost: &Cost) -> Result<Outcome> {
    let started = Instant::now();
    let Watch { index, data, dir, bench, tracks, epochs, failed, .. } = watch;
    if let Some(error) = failed {
        return Err(error);
    }
    check_values(trainer.step(index))?;
    let steps = trainer.step(index).done();
    let mut results = Vec::new();
    let mut predictions: Vec<PredictionRow> = Vec::new();
    let mut collapse: Vec<String> = collapse::stuck(&epochs).into_iter().collect();
    for (set, track) in data.dev_sets.iter().zip(&tracks) {
        let best = selected(track)?;
        let reported = best.scored.last().ok_or_else(|| Error::Internal("nothing was scored".into()))?;
        collapse.extend(collapse::signs(set.name, &reported.predictions, &reported.metrics));
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
    let (wall_seconds, seconds) = cost.of_run(&epochs, started.elapsed().as_secs_f64());
    let memory = cost.memory;
    let outcome = Outcome { results, parameters, steps, wall_seconds, seconds, memory, collapse };
    dir.finish(&outcome)?;
    Ok(outcome)
}

/// Refuses trained values that are not finite: a gate that is no number would pass for one that is pruned.
fn check_values(step: &TrainState) -> Result<()> {
    for group in step.params().groups() {
        if !group.flat.isfinite().all().int64_value(&[]).eq(&1) {
            let name = group.kind.name();
            return Err(Error::Diverged(format!(
                "trained values of group '{name}' are not finite; a smaller lr may help"
            )));
        }
    }
    Ok(())
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

fn count(step: &TrainState, inputs: &Inputs, data: &TaskData) -> Parameters {
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
