//! The end of a run: what its chosen checkpoints scored, its counts, its adapter, `DONE`.

use std::time::Instant;

use datasets::split::VALIDATION;
use datasets::tokenizer::TokenizedExample;
use methods::TrainState;

use crate::error::{Error, Result};
use crate::load::backbone::Backbone;
use crate::load::task_data::{TokenizedDevSet, TokenizedTask};
use crate::store::adapter_task;
use crate::store::leased_run::LeasedRun;
use crate::store::rows::{DevSetResult, EpochRow, Outcome, Parameters, PeakMiB, PredictionRow, Seconds};
use crate::train::best::{BestCheckpoint, Checkpoint, Scored};
use crate::train::callbacks::RunCallback;
use crate::train::collapse::{collapse_reasons, loss_is_flat, should_have_learned};
use crate::train::run_stack::RunStack;

/// Cost that runs side by side have in common.
pub struct Cost {
    /// Runs of the stack.
    pub runs: f64,
    /// Start of the work.
    pub started: Instant,
    /// Seconds that reading took before `started`.
    pub before: f64,
    /// Loading, tokenising and evaluation, of all runs together.
    pub seconds: Seconds,
    /// Peak memory.
    pub memory: PeakMiB,
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

/// Stores the scores at the selected checkpoint of each development set; counts and export are those at the first one's, which
/// stands for the run where a task has two.
pub fn conclude(stack: &RunStack, mut callback: RunCallback, cost: &Cost) -> Result<Outcome> {
    let started = Instant::now();
    if callback.failed.is_none() {
        callback.keep_gates(stack, stack.state(callback.index).done())?;
    }
    // Also of a run that failed: they say how it did.
    callback.write_traces()?;
    let RunCallback { index, data, dir, context, best, epochs, failed, .. } = callback;
    if let Some(error) = failed {
        return Err(error);
    }
    check_values(stack.state(index))?;
    let steps = stack.state(index).done();
    let mut results = Vec::new();
    let mut predictions: Vec<PredictionRow> = Vec::new();
    let mut collapse: Vec<String> = loss_is_flat(&epochs).into_iter().collect();
    for (set, best) in data.dev_sets.iter().zip(&best) {
        let best = selected(best)?;
        let reported = best.scored.last().ok_or_else(|| Error::Internal("nothing was scored".into()))?;
        collapse.extend(collapse_reasons(set.name, &reported.predictions, &reported.metrics));
        predictions.extend(best.scored.iter().flat_map(|scored| prediction_rows(set, scored)));
        results.push(DevSetResult {
            dev_set: set.name.into(),
            selected_step: Some(best.step),
            selection_metric: data.task.selection.name().into(),
            selection_value: Some(best.value),
            test: reported.metrics.clone(),
            test_examples: set.test.len(),
        });
    }
    let first = best.first().ok_or_else(|| Error::Internal(format!("task {} has no dev set", data.task.name)))?;
    stack.restore(index, &selected(first)?.state)?;
    export(stack, index, context.backbone, data, dir)?;
    dir.write_rows("predictions.csv", &predictions)?;
    let parameters = count(stack.state(index), context.backbone, data);
    let (wall_seconds, seconds) = cost.of_run(&epochs, started.elapsed().as_secs_f64());
    if !should_have_learned(steps) {
        collapse.clear();
    }
    let outcome = Outcome {
        results,
        parameters: Some(parameters),
        steps: Some(steps),
        wall_seconds: Some(wall_seconds),
        seconds: Some(seconds),
        memory: cost.memory,
        collapse,
    };
    dir.finish(&outcome)?;
    Ok(outcome)
}

/// Refuses trained values that are not finite: a gate that is no number would pass for one that is pruned.
fn check_values(step: &TrainState) -> Result<()> {
    for group in step.params().groups() {
        if !group.flat.isfinite().all().int64_value(&[]).eq(&1) {
            let name = group.kind.name;
            return Err(Error::Diverged(format!(
                "trained values of group '{name}' are not finite; a smaller lr may help"
            )));
        }
    }
    Ok(())
}

fn selected(best: &BestCheckpoint) -> Result<&Checkpoint> {
    let none = || Error::Internal(format!("no evaluation on {} took place", best.dev_set));
    best.best.as_ref().ok_or_else(none)
}

fn prediction_rows(set: &TokenizedDevSet, scored: &Scored) -> Vec<PredictionRow> {
    let rows = if scored.split == VALIDATION { &set.validation } else { &set.test };
    let row = |(row, prediction): (&TokenizedExample, &f64)| PredictionRow {
        split: scored.split.clone(),
        dev_set: set.name.into(),
        row: row.row,
        label: row.label,
        prediction: *prediction,
    };
    rows.iter().zip(&scored.predictions).map(row).collect()
}

fn count(step: &TrainState, backbone: &Backbone, data: &TokenizedTask) -> Parameters {
    let params = step.params();
    let counts = step.method().counts(params);
    Parameters {
        allocated: counts.allocated,
        effective: counts.effective,
        as_published: counts.as_published,
        head: params.numel() - counts.allocated,
        full: backbone.encoder.parameter_count(data.task.labels.outputs() as i64),
    }
}

/// Writes `adapter/` in PEFT's layout; its configuration names the task.
fn export(stack: &RunStack, run: usize, backbone: &Backbone, data: &TokenizedTask, dir: &LeasedRun) -> Result<()> {
    let mut files = stack.trained(run).write(&backbone.spec.name)?;
    files.config["auto_mapping"] = adapter_task::mapping(data.task.name);
    dir.write_json("adapter/adapter_config.json", &files.config)?;
    dir.write("adapter/adapter_model.safetensors", &files.weights)
}
