//! Events of one run: its settings, its logged steps, and its scores on the validation split.

use crate::plan::spec::RunSpec;
use crate::report::tensorboard::event::{Scalars, Setting, Settings, version};
use crate::report::tensorboard::record;
use crate::store::record::{RunRecord, StoredTraces};
use crate::store::rows::{EvalRow, StepRow};

/// The event file of a run, in the order of its steps; none where it has no rows, as for a run made elsewhere. A row has no time of its own: an event's is the
/// run's start and the mean time of the steps before it.
pub fn event_file(run: &RunRecord, traces: &StoredTraces) -> Option<Vec<u8>> {
    let spec = run.spec.made()?;
    let started = run.manifest.as_ref().map_or(0.0, |manifest| manifest.started_unix as f64);
    let steps: usize = run.epochs.iter().map(|epoch| epoch.steps).sum();
    let seconds: f64 = run.epochs.iter().map(|epoch| epoch.seconds).sum();
    let at = |step: usize| started + step as f64 * seconds / steps.max(1) as f64;
    let has_penalty = traces.steps.iter().any(|row| row.penalty != 0.0);
    let has_sets = run.evals.iter().any(|row| row.dev_set != "dev");
    let trained = traces.steps.iter().map(|row| (row.step, step_values(row, has_penalty)));
    let validation = run.evals.iter().filter(|row| row.split == "validation");
    let scored = validation.map(|row| (row.step, vec![score(row, has_sets)]));
    let mut values: Vec<(usize, Vec<(String, f32)>)> = trained.chain(scored).collect();
    values.sort_by_key(|(step, _)| *step);
    let mut file = Vec::new();
    record::push(&mut file, &version(started));
    record::push(&mut file, &Settings { run: run.id.clone(), started, settings: settings(spec) }.event());
    for (step, values) in &values {
        let scalars = Scalars { wall_time: at(*step), step: *step as i64, values: values.clone() };
        record::push(&mut file, &scalars.event());
    }
    (!values.is_empty()).then_some(file)
}

/// Settings that runs of a store differ in: the method with its options, task, seed, and the usual ones of training.
fn settings(spec: &RunSpec) -> Vec<(String, Setting)> {
    let texts = [("method", &spec.method), ("task", &spec.task), ("variant", &spec.label)];
    let train = &spec.train;
    let numbers = [
        ("seed", spec.seed as f64),
        ("lr", train.lr),
        ("epochs", train.epochs as f64),
        ("batch_size", train.batch_size as f64),
    ];
    let options = spec.options.iter().map(|(name, value)| {
        let number = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
        let text = || Setting::Text(value.as_str().map_or_else(|| value.to_string(), str::to_string));
        (format!("option_{name}"), number.map_or_else(text, Setting::Number))
    });
    let texts = texts.into_iter().map(|(name, text)| (name.to_string(), Setting::Text(text.clone())));
    let numbers = numbers.into_iter().map(|(name, number)| (name.to_string(), Setting::Number(number)));
    texts.chain(numbers).chain(options).collect()
}

/// The columns of `steps.csv` as tags.
fn step_values(row: &StepRow, has_penalty: bool) -> Vec<(String, f32)> {
    let penalty = has_penalty.then_some(("penalty", row.penalty));
    let components = row.nonzero_components.map(|count| ("nonzero_components", count as f32));
    let always = [("task_loss", row.task_loss), ("lr", row.lr as f32), ("grad_norm", row.grad_norm)];
    always.into_iter().chain(penalty).chain(components).map(|(name, value)| (format!("train/{name}"), value)).collect()
}

/// A metric as its tag; with the development set where a task has two.
fn score(row: &EvalRow, has_sets: bool) -> (String, f32) {
    let set = if has_sets { format!("_{}", row.dev_set) } else { String::new() };
    (format!("validation{set}/{}", row.metric), row.value as f32)
}
