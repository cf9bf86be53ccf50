//! A run, or a stack of them: train, evaluate, choose checkpoints, store.

use std::collections::BTreeMap;
use std::slice;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::load::precision::weight_kind;
use crate::load::task_data::TokenizedTask;
use crate::plan::spec::{RunSpec, TrainSpec};
use crate::store::record::Manifest;
use crate::store::rows::{Outcome, Seconds};
use crate::train::callbacks::{RunCallback, separated};
use crate::train::checkpoint::RunCheckpoint;
use crate::train::context::{RunContext, StoredRun};
use crate::train::manifest::{is_mixed, manifest};
use crate::train::memory::peak_memory;
use crate::train::outcome::{Cost, conclude};
use crate::train::resume::{Checkpointer, at_one_place, checkpoints, resume};
use crate::train::schedule::{all_epochs, stage_of};
use crate::train::stack_names::names;
use crate::train::step_log::StepLog;
use crate::train::trainer::{Next, Trainer};

/// Makes runs that share their steps, and stores each as it goes on; `DONE` is written last. A run
/// that fails does not take the others with it: where they share a product, a value that is not finite may reach all of them
/// (ADR 0020), so those that failed side by side are made again by themselves.
///
/// # Errors
/// Of all of them: options that do not fit, a file that cannot be written, Ctrl-C. Of one: a loss that is not finite.
pub fn run(runs: &[StoredRun], data: &TokenizedTask, context: RunContext) -> Result<Vec<Result<Outcome>>> {
    let found = checkpoints(runs, &|text| context.progress.say(text));
    let mut outcomes: BTreeMap<usize, Result<Outcome>> = BTreeMap::new();
    for stack in at_one_place(found) {
        let (numbers, found): (Vec<usize>, Vec<_>) = stack.into_iter().unzip();
        let stack: Vec<StoredRun> = numbers.iter().map(|&run| runs[run]).collect();
        outcomes.extend(numbers.into_iter().zip(made(&stack, found, data, context)?));
    }
    Ok(outcomes.into_values().collect())
}

/// Trains runs as one stack, and those that failed in it alone.
fn made(
    runs: &[StoredRun],
    found: Vec<Option<RunCheckpoint>>,
    data: &TokenizedTask,
    context: RunContext,
) -> Result<Vec<Result<Outcome>>> {
    let made = train_stack(runs, found, data, context)?;
    if runs.len() == 1 {
        return Ok(made);
    }
    let names = names(&runs.iter().map(|(spec, _)| *spec).collect::<Vec<_>>());
    let mended = |((outcome, run), name): ((Result<Outcome>, &StoredRun), String)| match outcome {
        outcome @ (Ok(_) | Err(Error::LeaseLost { .. })) => Ok(vec![outcome]),
        Err(error) => {
            context.progress.say(&format!("{name}: failed side by side, now by itself: {error}"));
            train_stack(slice::from_ref(run), vec![None], data, context)
        }
    };
    let mended = made.into_iter().zip(runs).zip(names).map(mended);
    Ok(mended.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Trains runs as one stack, on from their checkpoints where each has one.
fn train_stack(
    runs: &[StoredRun],
    found: Vec<Option<RunCheckpoint>>,
    data: &TokenizedTask,
    context: RunContext,
) -> Result<Vec<Result<Outcome>>> {
    let started = Instant::now();
    let (loading, tokenising) = (context.backbone.take_seconds(), data.seconds.take());
    // The memory of this run alone: what ran before it is given back first, and reading the backbone is no part of it.
    if let Some((spec, _)) = runs.first() {
        context.backbone.encoder_in(weight_kind(spec.train.precision))?;
    }
    torch_ext::device::reset_peak_memory(context.backbone.device)?;
    let specs: Vec<&RunSpec> = runs.iter().map(|(spec, _)| *spec).collect();
    let (is_mixed, mut in_parts) = (is_mixed(&specs), Vec::new());
    for ((spec, dir), found) in runs.iter().zip(&found) {
        let previous = dir.manifest();
        let begun_in_parts = previous.as_ref().and_then(|manifest| manifest.micro_batch);
        let manifest = manifest(context.backbone, data, runs.len(), previous);
        if found.is_some() && begun_in_parts != manifest.micro_batch {
            context.progress.say(&other_parts(begun_in_parts, manifest.micro_batch));
        }
        in_parts.push(manifest.micro_batch);
        let origin = context.origin.of(&spec.method);
        dir.write_manifest(&Manifest { is_mixed, origin, ..manifest })?;
    }
    let trainer = Trainer::new(&specs, context.backbone, data, in_parts.iter().copied().flatten().min())?;
    let settings: Vec<&TrainSpec> = specs.iter().map(|spec| &spec.train).collect();
    let log = StepLog::new(context.log_steps, &settings, data.train.len());
    let mut trainer = trainer.with_log(log);
    let names = if runs.len() > 1 {
        names(&specs).iter().map(|name| format!("{name}: ")).collect()
    } else {
        vec![String::new()]
    };
    let callback = |(place, (&stored, rows))| RunCallback::new(place, stored, rows, data, context);
    let mut callbacks: Vec<RunCallback> =
        names.into_iter().enumerate().zip(runs.iter().zip(in_parts)).map(callback).collect();
    let mut before = loading + tokenising;
    if let Some(found) = found.into_iter().collect::<Option<Vec<_>>>() {
        before += resume(&mut trainer, &mut callbacks, found)?;
        let done = trainer.stack().state(0).done();
        context.progress.say(&format!("goes on after step {done}"));
        context.progress.skip(done as u64 * runs.len() as u64);
    }
    let mut checkpointer = Checkpointer::new(context.checkpoint_every);
    let wall_seconds = || before + started.elapsed().as_secs_f64();
    match train(&mut trainer, &mut callbacks, &mut checkpointer, &wall_seconds) {
        Err(Error::Interrupted) => {
            checkpointer.save(&trainer, &callbacks, wall_seconds())?;
            return Err(Error::Interrupted);
        }
        trained => trained?,
    }
    let cost = Cost {
        runs: callbacks.len() as f64,
        started,
        before,
        seconds: Seconds {
            loading: loading + context.backbone.take_seconds(),
            tokenising,
            evaluation: callbacks.iter().map(|callback| callback.evaluation_seconds).sum(),
            ..Seconds::default()
        },
        memory: peak_memory(context.backbone.device)?,
    };
    let concluded = callbacks.into_iter().map(|callback| separated(conclude(trainer.stack(), callback, &cost)));
    let outcomes = concluded.collect::<Result<Vec<_>>>()?;
    // The state of a run that failed leads to the same failure again, and may be another run's (ADR 0020).
    let failed = runs.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_err());
    failed.for_each(|((_, dir), _)| dir.discard_checkpoint());
    Ok(outcomes)
}

/// Word on a run that goes on in parts of another size.
fn other_parts(begun: Option<usize>, now: Option<usize>) -> String {
    let [begun, now] =
        [begun, now].map(|rows| rows.map_or("the whole batch".into(), |rows| format!("parts of at most {rows} rows")));
    format!("resumed with steps of {now}, begun with {begun}: rounding differs")
}

/// Trains all epochs from where the trainer stands, and writes checkpoints on the way.
fn train(
    trainer: &mut Trainer,
    callbacks: &mut [RunCallback],
    checkpointer: &mut Checkpointer,
    wall_seconds: &dyn Fn() -> f64,
) -> Result<()> {
    let Some(first) = callbacks.first() else { return Ok(()) };
    let (context, train) = (first.context, &first.spec.train);
    callbacks.iter_mut().try_for_each(|callback| callback.evaluate_if_due(trainer.stack()))?;
    for epoch in trainer.progress().epoch.max(1)..=all_epochs(train) {
        let rows = loop {
            let rows = trainer.epoch(epoch, &mut |stack, clock| {
                callbacks.iter_mut().try_for_each(|callback| callback.after_step(stack, clock))?;
                if context.stop.load(Ordering::Relaxed) {
                    return Err(Error::Interrupted);
                }
                Ok(if checkpointer.is_due() { Next::Leave } else { Next::Continue })
            })?;
            match rows {
                Some(rows) => break rows,
                None => checkpointer.save(trainer, callbacks, wall_seconds())?,
            }
        };
        for (callback, steps) in callbacks.iter_mut().zip(trainer.take_logged()?) {
            callback.steps.extend(steps);
        }
        for (callback, row) in callbacks.iter_mut().zip(rows) {
            callback.after_epoch(trainer.stack(), row)?;
        }
        if callbacks.iter().all(|callback| callback.failed.is_some()) {
            break;
        }
        if let (stage, true) = stage_of(train, epoch)
            && train.stages.is_some()
        {
            callbacks.iter_mut().try_for_each(|callback| callback.end_stage(trainer.stack(), stage))?;
            trainer.end_stage();
        }
    }
    Ok(())
}
