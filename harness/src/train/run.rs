//! A run, or a stack of them: train, evaluate, choose checkpoints, store.

use std::slice;
use std::time::Instant;

use crate::error::Result;
use crate::load::inputs::TaskData;
use crate::load::precision::weight_kind;
use crate::plan::spec::RunSpec;
use crate::store::record::Manifest;
use crate::store::rows::{Outcome, Seconds};
use crate::train::callbacks::{RunCallback, separated};
use crate::train::context::{RunContext, StoredRun};
use crate::train::manifest::manifest;
use crate::train::memory::peak_memory;
use crate::train::outcome::{Cost, conclude};
use crate::train::trainer::Trainer;

/// Makes runs that differ in their seed only, side by side, and stores each as it goes on; `DONE` is written last. A run
/// that fails does not take the others with it: where they share a product, a value that is not finite may reach all of them
/// (ADR 0020), so those that failed side by side are made again by themselves.
///
/// # Errors
/// Of all of them: options that do not fit, a file that cannot be written, Ctrl-C. Of one: a loss that is not finite.
pub fn run(runs: &[StoredRun], data: &TaskData, context: RunContext) -> Result<Vec<Result<Outcome>>> {
    let made = train_stack(runs, data, context)?;
    if runs.len() == 1 {
        return Ok(made);
    }
    let mended = |(outcome, run): (Result<Outcome>, &StoredRun)| match outcome {
        Ok(outcome) => Ok(vec![Ok(outcome)]),
        Err(error) => {
            context.progress.say(&format!("failed side by side, now by itself: {error}"));
            train_stack(slice::from_ref(run), data, context)
        }
    };
    Ok(made.into_iter().zip(runs).map(mended).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

fn train_stack(runs: &[StoredRun], data: &TaskData, context: RunContext) -> Result<Vec<Result<Outcome>>> {
    let started = Instant::now();
    let (loading, tokenising) = (context.inputs.take_seconds(), data.seconds.take());
    // The memory of this run alone: what ran before it is given back first, and reading the backbone is no part of it.
    if let Some((spec, _)) = runs.first() {
        context.inputs.encoder_in(weight_kind(spec.train.precision))?;
    }
    torch_ext::device::reset_peak_memory(context.inputs.device)?;
    for (spec, dir) in runs {
        let manifest = manifest(context.inputs, data, runs.len(), dir.previous_manifest());
        dir.write_json("manifest.json", &Manifest { origin: context.origin.of(&spec.method), ..manifest })?;
    }
    let specs: Vec<&RunSpec> = runs.iter().map(|(spec, _)| *spec).collect();
    let mut trainer = Trainer::new(&specs, context.inputs, data)?;
    let mut callbacks: Vec<RunCallback> =
        runs.iter().enumerate().map(|(index, &stored)| RunCallback::new(index, stored, data, context)).collect();
    for epoch in 1..=specs.first().map_or(0, |spec| spec.train.epochs) {
        let rows = trainer.epoch(epoch, &mut |stack, clock| {
            callbacks.iter_mut().try_for_each(|callback| callback.after_step(stack, clock))
        })?;
        for (callback, row) in callbacks.iter_mut().zip(rows) {
            callback.after_epoch(trainer.stack(), row)?;
        }
        if callbacks.iter().all(|callback| callback.failed.is_some()) {
            break;
        }
    }
    let cost = Cost {
        runs: callbacks.len() as f64,
        started,
        before: loading + tokenising,
        seconds: Seconds {
            loading: loading + context.inputs.take_seconds(),
            tokenising,
            evaluation: callbacks.iter().map(|callback| callback.evaluation_seconds).sum(),
            ..Seconds::default()
        },
        memory: peak_memory(context.inputs.device)?,
    };
    callbacks.into_iter().map(|callback| conclude(trainer.stack(), callback, &cost)).map(separated).collect()
}
