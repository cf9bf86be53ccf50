//! The measurement behind the efficiency table (DESIGN §6): memory of each method by itself, then time, for which the methods take turns
//! A B C A B C, epoch by epoch, on the same rows at the same batch size; evaluation and checkpointing are outside.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tch::{Device, Kind, Tensor};

use crate::env::console::Progress;
use crate::env::device;
use crate::env::energy::EnergyMeter;
use crate::error::{Error, Result};
use crate::load::backbone::Backbone;
use crate::load::precision::weight_kind;
use crate::load::task_data::{TaskCache, TokenizedTask};
use crate::plan::recipe::Timing;
use crate::plan::spec::{Precision, RunSpec};
use crate::store::files::write_csv;
use crate::store::rows::{PeakMiB, TimingRow};
use crate::train::memory::peak_memory;
use crate::train::operations::operations;
use crate::train::trainer::{Next, Trainer};

/// Products whose median is the machine's speed; an odd number.
const PRODUCTS: usize = 7;
/// Side of the matrices that tell whether the machine has slowed down.
const SMALL: i64 = 1024;

/// The runs of a plan that a recipe's `[timing]` means: its task, or the plan's first, with the plan's first seed.
pub fn timed(plan: &[RunSpec], timing: &Timing) -> Vec<RunSpec> {
    let Some(first) = plan.first() else { return Vec::new() };
    let task = timing.task.as_ref().filter(|task| plan.iter().any(|run| run.task == **task)).unwrap_or(&first.task);
    plan.iter().filter(|run| run.task == *task && run.seed == first.seed).cloned().collect()
}

/// Times the planned runs of one seed, task by task. `timings.csv` in `out` is rewritten after every round.
///
/// # Errors
/// As a run: options that do not fit, a loss that is not finite, a file that cannot be written, Ctrl-C.
pub fn measure(
    plan: &[RunSpec],
    timing: &Timing,
    backbone: &Backbone,
    data: &TaskCache,
    out: &Path,
    stop: &AtomicBool,
) -> Result<Vec<TimingRow>> {
    let mut rows = Vec::new();
    let steps = plan.iter().map(|spec| shortened(spec, timing, backbone, data)).collect::<Result<Vec<_>>>()?;
    let total: usize =
        steps.iter().map(|(spec, task)| crate::train::schedule::lengths(&spec.train, task.train.len()).0).sum();
    let tasks = plan.chunk_by(|a, b| a.task == b.task);
    let progress = Progress::new(tasks.clone().count(), total as u64);
    let mut rest = steps.as_slice();
    for same_task in tasks {
        let (contestants, others) = rest.split_at(same_task.len());
        rest = others;
        progress.begin(&format!("timing on {}", same_task[0].task), 1, contestants.len() as u64 * timing.rounds as u64);
        rounds(contestants, timing, backbone, &progress, stop, &mut |row| {
            rows.push(row);
            write_csv(&out.join("timings.csv"), &rows)
        })?;
        progress.end(&format!("{} rounds", timing.rounds));
    }
    progress.finish();
    Ok(rows)
}

/// The run as it is timed: long enough for all rounds, on as many rows as one round takes.
fn shortened(
    spec: &RunSpec,
    timing: &Timing,
    backbone: &Backbone,
    data: &TaskCache,
) -> Result<(RunSpec, TokenizedTask)> {
    let full = data.of_run(spec, &backbone.tokenizer)?;
    let rows = timing.steps.map_or(full.train.len(), |steps| steps * spec.train.batch_size);
    let mut timed = spec.clone();
    timed.train.epochs = timing.rounds;
    let train = full.train.iter().take(rows).cloned().collect();
    let (files, seconds) = (full.files.clone(), 0.0.into());
    Ok((timed, TokenizedTask { task: full.task, train, dev_sets: Vec::new(), files, seconds }))
}

fn rounds(
    contestants: &[(RunSpec, TokenizedTask)],
    timing: &Timing,
    backbone: &Backbone,
    progress: &Progress,
    stop: &AtomicBool,
    keep: &mut dyn FnMut(TimingRow) -> Result<()>,
) -> Result<()> {
    let rates = product_rates(contestants, backbone.device)?;
    let peaks = contestants.iter().map(|contestant| peak_alone(contestant, backbone)).collect::<Result<Vec<_>>>()?;
    let mut trainers = contestants.iter().map(|contestant| warm(contestant, backbone)).collect::<Result<Vec<_>>>()?;
    let info = backbone.encoder.info();
    let meter = EnergyMeter::of(backbone.device);
    for round in 1..=timing.rounds {
        for ((trainer, (spec, task)), peak) in trainers.iter_mut().zip(contestants).zip(&peaks) {
            torch_ext::device::allow_tf32(spec.train.precision == Precision::Tf32)?;
            let product_seconds = Some(product_seconds(SMALL, Kind::Float, backbone.device)?);
            let joules = meter.as_ref().and_then(EnergyMeter::joules);
            let rows = trainer.epoch(round, &mut |_, _| {
                progress.step();
                if stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(Next::Continue) }
            })?;
            let row = rows.into_iter().flatten().collect::<Result<Vec<_>>>()?.remove(0);
            let joules = meter.as_ref().and_then(|meter| meter.joules_since(joules, row.seconds));
            let counts = trainer.stack().state(0).method().counts(trainer.stack().state(0).params());
            progress.say(&format!("round {round}: {} {} {:.2} s", spec.method, spec.label, row.seconds));
            keep(TimingRow {
                method: spec.method.clone(),
                variant: spec.label.clone(),
                task: spec.task.clone(),
                repeat: round,
                epoch: 1,
                seconds: row.seconds,
                phase: trainer.schedule_parts(round),
                recordings: row.recordings,
                product_seconds,
                steps: row.steps,
                tokens: row.tokens,
                operations: Some(operations(info, trainer.stack().state(0), &lengths(task))),
                product_rate: rates.get(spec.train.precision.name()).copied(),
                joules,
                peak_allocated_mib: peak.peak_allocated_mib,
                peak_reserved_mib: peak.peak_reserved_mib,
                peak_resident_mib: peak.peak_resident_mib,
                allocated: counts.allocated,
                effective: counts.effective,
                batch_size: spec.train.batch_size,
                length: trainer.loader().longest(),
                device: device::name(backbone.device),
                driver: device::driver_of(backbone.device),
                precision: spec.train.precision.name().into(),
            })?;
        }
    }
    Ok(())
}

/// A trainer that has taken a step of every kind its rounds will have.
fn warm<'a>((spec, task): &'a (RunSpec, TokenizedTask), backbone: &'a Backbone) -> Result<Trainer<'a>> {
    torch_ext::device::allow_tf32(spec.train.precision == Precision::Tf32)?;
    let mut trainer = Trainer::new(&[spec], backbone, task, None)?;
    trainer.warm_up()?;
    Ok(trainer)
}

/// Tokens of every row.
fn lengths(task: &TokenizedTask) -> Vec<usize> {
    task.train.iter().map(|row| row.encoding.ids.len()).collect()
}

/// Operations a second of a product that keeps the device busy, by number format. Not of float32 on a GPU, whose steps make their
/// products of three in float16 (ADR 0019).
fn product_rates(contestants: &[(RunSpec, TokenizedTask)], device: Device) -> Result<BTreeMap<&'static str, f64>> {
    let mut rates = BTreeMap::new();
    let side = if device.is_cuda() { 8 * SMALL } else { SMALL };
    for precision in contestants.iter().map(|(spec, _)| spec.train.precision) {
        if rates.contains_key(precision.name()) || (device.is_cuda() && precision == Precision::Fp32) {
            continue;
        }
        torch_ext::device::allow_tf32(precision == Precision::Tf32)?;
        let seconds = product_seconds(side, weight_kind(precision), device)?;
        rates.insert(precision.name(), 2.0 * (side as f64).powi(3) / seconds);
    }
    torch_ext::device::release_memory(device)?;
    Ok(rates)
}

/// Median seconds of a product of two square matrices.
fn product_seconds(side: i64, kind: Kind, device: Device) -> Result<f64> {
    // Random values: a device draws more power for them, and is slower.
    let matrix = Tensor::rand([side, side], (Kind::Float, device)).to_kind(kind);
    let _ = matrix.matmul(&matrix);
    let mut seconds = Vec::with_capacity(PRODUCTS);
    for _ in 0..PRODUCTS {
        torch_ext::device::synchronize(device)?;
        let started = Instant::now();
        let _ = matrix.matmul(&matrix);
        torch_ext::device::synchronize(device)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[PRODUCTS / 2])
}

/// Peak memory of a method by itself: nothing of another is there.
fn peak_alone(contestant: &(RunSpec, TokenizedTask), backbone: &Backbone) -> Result<PeakMiB> {
    backbone.encoder_in(weight_kind(contestant.0.train.precision))?;
    torch_ext::device::reset_peak_memory(backbone.device)?;
    let trainer = warm(contestant, backbone)?;
    torch_ext::device::synchronize(backbone.device)?;
    let peak = peak_memory(backbone.device)?;
    drop(trainer);
    Ok(peak)
}
