//! Cost of a run, from a few timed steps of it on this device.

use std::collections::BTreeMap;
use std::time::Instant;

use datasets::batch::Batch;

use crate::env::micro_batch::MicroBatch;
use crate::error::Result;
use crate::load::backbone::Backbone;
use crate::load::precision::weight_kind;
use crate::load::task_data::{TokenizedDevSet, TokenizedTask};
use crate::plan::spec::{Precision, RunSpec};
use crate::train::graph_recorder::{StepRunner, runner};
use crate::train::loader::BatchShape;
use crate::train::memory::peak_memory;
use crate::train::parts::Parts;
use crate::train::run_stack::RunStack;
use crate::train::schedule::lengths;

/// Shapes of batches that are timed, spread over those of an epoch.
const SHAPES: usize = 4;
/// Steps of each shape that are timed; the fastest counts, since a busy machine only adds.
const TIMED: usize = 2;
/// Steps whose shapes a stack's cost is taken from.
const SAMPLED: usize = 64;
/// Rows that an evaluation is timed on.
const EVALUATED: usize = 128;

/// Time and memory of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Mean seconds of a training step.
    pub step_seconds: f64,
    /// Seconds of one evaluation.
    pub evaluation_seconds: f64,
    /// Peak memory in MiB: of the device, or resident on a CPU.
    pub peak_mib: Option<f64>,
}

impl Estimate {
    /// Seconds of so many steps and evaluations.
    pub fn seconds(&self, steps: usize, evaluations: usize) -> f64 {
        self.step_seconds * steps as f64 + self.evaluation_seconds * evaluations as f64
    }
}

/// Text that runs of about the same cost have in common: seed, rates and thresholds are no part of it.
pub fn cost_key(spec: &RunSpec) -> String {
    // Where a branch drops its input, layers are not fused.
    let shapes_cost = |key: &str, value: &toml::Value| {
        key == "lora_dropout" || !matches!(value, toml::Value::Float(_) | toml::Value::Table(_))
    };
    let options: Vec<String> = spec
        .options
        .iter()
        .filter(|(key, value)| shapes_cost(key, value))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let train = &spec.train;
    format!(
        "{} {} {} {} {:?} {:?} {} {} {:?} {options:?}",
        spec.task,
        spec.method,
        train.batch_size,
        train.max_length,
        train.padding,
        train.order,
        train.train_head,
        train.precision.name(),
        spec.data.train_limit
    )
}

/// Times a few steps of each of a few shapes, in the middle of the run's schedule, and a part of an evaluation.
///
/// # Errors
/// As a step; options that do not fit the run.
pub fn estimate(spec: &RunSpec, backbone: &Backbone, task: &TokenizedTask) -> Result<Estimate> {
    let mut stack = prepared(&[spec], backbone, task)?;
    let mut runner = runner(backbone.graphs);
    let mut shapes: BTreeMap<BatchShape, (usize, Batch)> = BTreeMap::new();
    let loader = stack.loader();
    for (shape, batch) in loader.shapes().take(loader.steps()) {
        shapes.entry(shape).or_insert((0, batch)).0 += 1;
    }
    let mut points = Vec::new();
    for batch in spread(&shapes.values().map(|(_, batch)| batch).collect::<Vec<_>>()) {
        points.push((cells(batch), step_seconds(&mut stack, runner.as_mut(), batch)?));
    }
    let epoch: f64 = shapes.values().map(|(count, batch)| *count as f64 * interpolated(&points, cells(batch))).sum();
    let step_seconds = epoch / loader.steps().max(1) as f64;
    let evaluation_seconds = evaluation_seconds(&stack, task)?;
    Ok(Estimate { step_seconds, evaluation_seconds, peak_mib: peak_mib(backbone)? })
}

/// Seconds of a step of runs that share it, of the middle one of their first shapes, and the peak memory in MiB of a step of the largest.
///
/// # Errors
/// As a step, memory that runs out among them; options that do not fit a run.
pub fn stack_cost(specs: &[&RunSpec], backbone: &Backbone, task: &TokenizedTask) -> Result<(f64, Option<f64>)> {
    let mut stack = prepared(specs, backbone, task)?;
    // A step that only fits in parts does not fit.
    let parts = backbone.micro_batch.filter(|parts| *parts != MicroBatch::Auto);
    *stack.parts_mut() = Parts::new(parts, None);
    let mut runner = runner(backbone.graphs);
    let mut batches: Vec<Batch> = stack.loader().shapes().take(SAMPLED).map(|(_, batch)| batch).collect();
    batches.sort_by(|a, b| cells(a).total_cmp(&cells(b)));
    let (Some(middle), Some(largest)) = (batches.get(batches.len() / 2), batches.last()) else {
        return Ok((0.0, None));
    };
    let seconds = step_seconds(&mut stack, runner.as_mut(), middle)?;
    step_seconds(&mut stack, runner.as_mut(), largest)?;
    Ok((seconds, peak_mib(backbone)?))
}

/// A stack of runs; memory is measured from here on.
fn prepared<'a>(specs: &[&'a RunSpec], backbone: &Backbone, task: &'a TokenizedTask) -> Result<RunStack<'a>> {
    if let Some(spec) = specs.first() {
        torch_ext::device::allow_tf32(spec.train.precision == Precision::Tf32)?;
        backbone.encoder_in(weight_kind(spec.train.precision))?;
    }
    torch_ext::device::reset_peak_memory(backbone.device)?;
    RunStack::new(specs, backbone, task)
}

fn peak_mib(backbone: &Backbone) -> Result<Option<f64>> {
    let peak = peak_memory(backbone.device)?;
    Ok(peak.peak_allocated_mib.or(peak.peak_resident_mib))
}

/// The fastest of a few steps on a batch, in seconds, after those that make what is made once.
fn step_seconds(stack: &mut RunStack, runner: &mut dyn StepRunner, batch: &Batch) -> Result<f64> {
    let (device, loader) = (stack.device(), stack.loader());
    let (steps, _) = lengths(stack.train(0), loader.rows());
    let warm_up = runner.steps_to_warm_up();
    let mut fastest = f64::INFINITY;
    for round in 0..warm_up + TIMED {
        // Every step is one of the run, wherever it is in its schedule.
        stack.go_to(steps / 2)?;
        torch_ext::device::synchronize(device)?;
        let started = Instant::now();
        for batch in loader.upload(batch) {
            runner.run(stack, &batch)?;
        }
        torch_ext::device::synchronize(device)?;
        if round >= warm_up {
            fastest = fastest.min(started.elapsed().as_secs_f64());
        }
    }
    Ok(fastest)
}

/// Seconds of one evaluation, from rows spread over the validation split.
fn evaluation_seconds(stack: &RunStack, task: &TokenizedTask) -> Result<f64> {
    let rows = |set: &TokenizedDevSet| set.validation.len() + if set.is_one_set { 0 } else { set.test.len() };
    let total: usize = task.dev_sets.iter().map(rows).sum();
    let Some(first) = task.dev_sets.first() else { return Ok(0.0) };
    let every = first.validation.len().div_ceil(EVALUATED).max(1);
    let sample: Vec<_> = first.validation.iter().step_by(every).cloned().collect();
    stack.predict(0, &sample)?;
    let started = Instant::now();
    stack.predict(0, &sample)?;
    Ok(started.elapsed().as_secs_f64() / sample.len().max(1) as f64 * total as f64)
}

/// Cells of a batch's rectangle.
fn cells(batch: &Batch) -> f64 {
    (batch.rows * batch.length) as f64
}

/// At most [`SHAPES`] of these, the smallest and the largest among them.
fn spread<'a>(batches: &[&'a Batch]) -> Vec<&'a Batch> {
    let mut sorted = batches.to_vec();
    sorted.sort_by(|a, b| cells(a).total_cmp(&cells(b)));
    let last = sorted.len().saturating_sub(1);
    let count = SHAPES.min(sorted.len());
    (0..count).map(|index| sorted[index * last / (count - 1).max(1)]).collect()
}

/// The value at `x` on the line through the two nearest points, whose x rise; beyond them in proportion.
fn interpolated(points: &[(f64, f64)], x: f64) -> f64 {
    let Some(&first) = points.first() else { return 0.0 };
    for pair in points.windows(2) {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        if (x0..=x1).contains(&x) {
            return if x1 > x0 { y0 + (y1 - y0) * (x - x0) / (x1 - x0) } else { y0 };
        }
    }
    let nearest = points.iter().min_by(|a, b| (a.0 - x).abs().total_cmp(&(b.0 - x).abs())).unwrap_or(&first);
    nearest.1 * x / nearest.0.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_between_measured_shapes_are_interpolated() {
        let points = [(10.0, 1.0), (20.0, 3.0)];
        assert_eq!([5.0, 10.0, 15.0, 20.0, 40.0].map(|x| interpolated(&points, x)), [0.5, 1.0, 2.0, 3.0, 6.0]);
        assert_eq!(interpolated(&[], 3.0), 0.0);
    }
}
