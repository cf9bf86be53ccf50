//! One run: train, evaluate, choose checkpoints, store.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use datasets::tokenizer::Encoded;
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

/// Makes one run and stores it as it goes on; `DONE` is written last.
///
/// # Errors
/// Options that do not fit, a loss that is not finite, a file that cannot be written, Ctrl-C.
pub fn run(spec: &RunSpec, data: &TaskData, dir: &RunDir, bench: Bench) -> Result<Outcome> {
    let started = Instant::now();
    dir.write_json("manifest.json", &manifest(bench.inputs, data, dir.previous_manifest()))?;
    let mut trainer = Trainer::new(spec, bench.inputs, data)?;
    let mut watch = Watch::new(spec, data, dir, bench);
    let mut epochs: Vec<EpochRow> = Vec::new();
    for epoch in 1..=spec.train.epochs {
        let row = trainer.epoch(epoch, &mut |trainer, clock| watch.after_step(trainer, clock))?;
        epochs.push(row);
        dir.write_rows("epochs.csv", &epochs)?;
        let is_last = epoch == spec.train.epochs;
        if watch.is_due_after(epoch) || (is_last && watch.evals.is_empty()) {
            watch.evaluate(&trainer)?;
        }
    }
    let outcome = conclude(&mut trainer, watch, &epochs, started)?;
    dir.finish(&outcome)?;
    Ok(outcome)
}

/// Everything seen of a run so far.
struct Watch<'a> {
    spec: &'a RunSpec,
    data: &'a TaskData,
    dir: &'a RunDir,
    bench: Bench<'a>,
    tracks: Vec<Track>,
    evals: Vec<EvalRow>,
    ranks: Vec<RankRow>,
}

impl<'a> Watch<'a> {
    fn new(spec: &'a RunSpec, data: &'a TaskData, dir: &'a RunDir, bench: Bench<'a>) -> Self {
        let tracks = data.dev_sets.iter().map(|set| Track::new(set.name)).collect();
        Watch { spec, data, dir, bench, tracks, evals: Vec::new(), ranks: Vec::new() }
    }

    fn after_step(&mut self, trainer: &Trainer, clock: &mut Clock) -> Result<()> {
        if self.bench.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        self.bench.progress.step();
        match self.spec.train.evaluate {
            EvaluateEvery::Steps(every) if trainer.step().done().is_multiple_of(every.max(1)) => {
                clock.pause(|| self.evaluate(trainer))
            }
            _ => Ok(()),
        }
    }

    fn is_due_after(&self, epoch: usize) -> bool {
        matches!(self.spec.train.evaluate, EvaluateEvery::Epochs(every) if epoch.is_multiple_of(every.max(1)))
    }

    /// Metrics on validation and test of every development set, ranks of every site, and a place among the checkpoints.
    fn evaluate(&mut self, trainer: &Trainer) -> Result<()> {
        let step = trainer.step().done();
        let effective = trainer.step().method().counts(trainer.step().params()).effective;
        let steps_an_epoch = self.data.train.len().div_ceil(self.spec.train.batch_size);
        let epoch = step as f64 / steps_an_epoch as f64;
        let mut said = Vec::new();
        for (set, track) in self.data.dev_sets.iter().zip(&mut self.tracks) {
            let mut scored = Vec::new();
            for (split, rows) in splits(set) {
                let Predicted { values: predictions, loss, .. } = trainer.predict(rows)?;
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
            track.offer(step, value, scored, || trainer.step().params().state());
        }
        self.ranks.extend(ranks(trainer.step().method(), trainer.step().params()).into_iter().map(|site| RankRow {
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
fn conclude(trainer: &mut Trainer, watch: Watch, epochs: &[EpochRow], started: Instant) -> Result<Outcome> {
    let Watch { data, dir, bench, tracks, .. } = watch;
    let steps = trainer.step().done();
    let mut results = Vec::new();
    let mut predictions: Vec<PredictionRow> = Vec::new();
    let mut collapse: Vec<String> = health::stuck(epochs).into_iter().collect();
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
    trainer.restore(&selected(first)?.state)?;
    export(trainer, bench.inputs, dir)?;
    dir.write_rows("predictions.csv", &predictions)?;
    let parameters = count(trainer, bench.inputs, data);
    Ok(Outcome { results, parameters, steps, wall_seconds: started.elapsed().as_secs_f64(), collapse })
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

fn count(trainer: &Trainer, inputs: &Inputs, data: &TaskData) -> Parameters {
    let params = trainer.step().params();
    let counts = trainer.step().method().counts(params);
    Parameters {
        allocated: counts.allocated,
        effective: counts.effective,
        as_published: counts.as_published,
        head: params.numel() - counts.allocated,
        full: inputs.encoder.parameter_count(data.task.labels.outputs() as i64),
    }
}

/// Writes `adapter/` in PEFT's layout.
fn export(trainer: &Trainer, inputs: &Inputs, dir: &RunDir) -> Result<()> {
    let exported = trainer.exported();
    dir.write_json("adapter/adapter_config.json", &exported.config(&inputs.backbone.name))?;
    dir.write("adapter/adapter_model.safetensors", &exported.weights()?)
}
