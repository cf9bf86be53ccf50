//! The interleaved time measurement behind the efficiency table (DESIGN §6): methods take turns A B C A B C, epoch by
//! epoch, on the same rows at the same batch size; evaluation and checkpointing are outside.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::device;
use crate::error::{Error, Result};
use crate::inputs::{Data, Inputs, TaskData};
use crate::progress::Progress;
use crate::recipe::Timing;
use crate::record::TimingRow;
use crate::spec::{Precision, RunSpec};
use crate::store::write_csv;
use crate::train::Trainer;

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
    inputs: &Inputs,
    data: &Data,
    out: &Path,
    stop: &AtomicBool,
) -> Result<Vec<TimingRow>> {
    let mut rows = Vec::new();
    let steps = plan.iter().map(|spec| shortened(spec, timing, inputs, data)).collect::<Result<Vec<_>>>()?;
    let total: usize = steps.iter().map(|(spec, task)| crate::train::lengths(&spec.train, task.train.len()).0).sum();
    let tasks = plan.chunk_by(|a, b| a.task == b.task);
    let progress = Progress::new(tasks.clone().count(), total as u64);
    let mut rest = steps.as_slice();
    for same_task in tasks {
        let (contestants, others) = rest.split_at(same_task.len());
        rest = others;
        progress.begin(
            &format!("timing on {}", same_task[0].task),
            1,
            contestants.len() as u64 * (timing.rounds as u64 + 1),
        );
        rounds(contestants, timing, inputs, &progress, stop, &mut |row| {
            rows.push(row);
            write_csv(&out.join("timings.csv"), &rows)
        })?;
        progress.end(&format!("{} rounds", timing.rounds));
    }
    progress.finish();
    Ok(rows)
}

/// The run as it is timed: long enough for all rounds, on as many rows as one round takes.
fn shortened(spec: &RunSpec, timing: &Timing, inputs: &Inputs, data: &Data) -> Result<(RunSpec, TaskData)> {
    let full = data.of_run(spec, &inputs.tokenizer)?;
    let rows = timing.steps.map_or(full.train.len(), |steps| steps * spec.train.batch_size);
    let mut timed = spec.clone();
    timed.train.epochs = timing.rounds + 1;
    let train = full.train.iter().take(rows).cloned().collect();
    Ok((timed, TaskData { task: full.task, train, dev_sets: Vec::new(), files: full.files.clone() }))
}

fn rounds(
    contestants: &[(RunSpec, TaskData)],
    timing: &Timing,
    inputs: &Inputs,
    progress: &Progress,
    stop: &AtomicBool,
    keep: &mut dyn FnMut(TimingRow) -> Result<()>,
) -> Result<()> {
    let mut trainers =
        contestants.iter().map(|(spec, task)| Trainer::new(&[spec], inputs, task)).collect::<Result<Vec<_>>>()?;
    for round in 0..=timing.rounds {
        for (trainer, (spec, _)) in trainers.iter_mut().zip(contestants) {
            torch_ext::allow_tf32(spec.train.precision == Precision::Tf32)?;
            let rows = trainer.epoch(round + 1, &mut |_, _| {
                progress.step();
                if stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
            })?;
            let row = rows.into_iter().collect::<Result<Vec<_>>>()?.remove(0);
            // Round 0 warms up: allocator, kernels, caches.
            if round == 0 {
                continue;
            }
            let counts = trainer.step(0).method().counts(trainer.step(0).params());
            progress.say(&format!("round {round}: {} {:.2} s", spec.method, row.seconds));
            keep(TimingRow {
                method: spec.method.clone(),
                task: spec.task.clone(),
                repeat: round,
                epoch: 1,
                seconds: row.seconds,
                steps: row.steps,
                tokens: row.tokens,
                peak_memory_mib: row.peak_memory_mib,
                allocated: counts.allocated,
                effective: counts.effective,
                batch_size: spec.train.batch_size,
                length: trainer.longest(),
                device: device::name(inputs.device),
                precision: spec.train.precision.name().into(),
            })?;
        }
    }
    Ok(())
}
