//! All runs of a plan: what is done stays done, what fails is stored as failed, the rest goes on.

use std::fs::File;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::env::console::{Progress, spoken};
use crate::env::panics;
use crate::error::{Error, Result};
use crate::launch::headline::headline;
use crate::launch::stacking::stacks;
use crate::load::inputs::{Data, Inputs, TaskData};
use crate::plan::origin::RecipeRules;
use crate::plan::spec::{Precision, RunSpec};
use crate::store::rows::Outcome;
use crate::store::run_dir::RunDir;
use crate::train::context::{RunContext, StoredRun};
use crate::train::run::run;
use crate::train::schedule::lengths;

/// Time between two looks at a run that another process makes.
const WAIT: Duration = Duration::from_millis(200);

/// What a sweep came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepSummary {
    /// Runs of the plan.
    pub total: usize,
    /// Runs that were finished before.
    pub known: usize,
    /// Runs that failed now.
    pub failed: usize,
}

/// Makes every run that is not finished, below `runs`: in order, and up to `together` that differ in their seed only side
/// by side, where the method can.
///
/// # Errors
/// Ctrl-C, a file that cannot be written, input that can no longer be read. A run that fails is no error here.
pub fn sweep(
    plan: &[RunSpec],
    inputs: &Inputs,
    data: &Data,
    origin: &RecipeRules,
    runs: &Path,
    together: usize,
    (stop, checkpoint_every): (&AtomicBool, Duration),
) -> Result<SweepSummary> {
    let mut open: Vec<(&RunSpec, RunDir)> = Vec::new();
    for spec in plan {
        let dir = RunDir::open(runs, spec)?;
        if !dir.is_done() {
            open.push((spec, dir));
        }
    }
    let known = plan.len() - open.len();
    if known > 0 {
        eprintln!("{known} of {} runs are finished already", plan.len());
    }
    let mut planned = 0;
    for (spec, _) in &open {
        planned += steps(spec, inputs, data)?;
    }
    let progress = Progress::new(open.len(), planned);
    let context = RunContext { inputs, origin, progress: &progress, stop, checkpoint_every };
    let made = make_all(stacks(&open, together)?, data, context);
    progress.finish();
    Ok(SweepSummary { total: plan.len(), known, failed: made? })
}

/// Makes groups of runs, those of another process last, and counts the failed ones. What another process makes is waited for, and made
/// here where it comes to no end.
fn make_all(groups: Vec<Vec<StoredRun>>, data: &Data, context: RunContext) -> Result<usize> {
    let mut failed = 0;
    let mut others = Vec::new();
    for group in groups {
        match locks(&group)? {
            Some(_locks) => failed += make(&group, data, context)?,
            None => others.push(group),
        }
    }
    for group in others {
        context.progress.say(&format!("{} {} is made by another process; waiting", group[0].0.task, group[0].0.method));
        let _locks = wait_for_locks(&group, context.stop)?;
        failed += make(&group, data, context)?;
    }
    Ok(failed)
}

/// The locks of all runs of a group; none where another process has one of them.
fn locks(group: &[StoredRun]) -> Result<Option<Vec<File>>> {
    group.iter().map(|(_, dir)| dir.try_lock()).collect()
}

fn wait_for_locks(group: &[StoredRun], stop: &AtomicBool) -> Result<Vec<File>> {
    loop {
        if let Some(locks) = locks(group)? {
            return Ok(locks);
        }
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        std::thread::sleep(WAIT);
    }
}

/// Makes the runs of a group that are not finished, and counts the failed ones.
fn make(group: &[StoredRun], data: &Data, context: RunContext) -> Result<usize> {
    // Another process may have finished them since the sweep began.
    let group: Vec<StoredRun> = group.iter().copied().filter(|(_, dir)| !dir.is_done()).collect();
    let (inputs, progress) = (context.inputs, context.progress);
    let mut failed = 0;
    if let Some(&(first, _)) = group.first() {
        let task = data.of_run(first, &inputs.tokenizer)?;
        let steps = steps(first, inputs, data)?;
        let seeds: Vec<String> = group.iter().map(|(spec, _)| spec.seed.to_string()).collect();
        let label = format!("{} {} seed {}", first.task, first.method, seeds.join(", "));
        progress.begin(&label, group.len(), steps * group.len() as u64);
        let started = Instant::now();
        let outcomes = match guarded(&group, &task, context) {
            Err(error) if error.ends_the_sweep() => return Err(error),
            Err(error) => group.iter().map(|_| Err(error.to_string())).collect::<Vec<_>>(),
            Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.map_err(|e| e.to_string())).collect(),
        };
        for ((outcome, (spec, dir)), seed) in outcomes.into_iter().zip(&group).zip(seeds) {
            let whose = if group.len() > 1 { format!("seed {seed}: ") } else { String::new() };
            match outcome {
                Ok(outcome) => {
                    progress.end(&format!("{whose}{} in {}", headline(spec, &outcome), spoken(started.elapsed())));
                }
                Err(reason) => {
                    failed += 1;
                    dir.fail(&reason)?;
                    progress.skip(steps);
                    progress.end(&format!("{whose}FAILED: {reason}"));
                }
            }
        }
    }
    Ok(failed)
}

/// Optimiser steps of a run.
fn steps(spec: &RunSpec, inputs: &Inputs, data: &Data) -> Result<u64> {
    Ok(lengths(&spec.train, data.of_run(spec, &inputs.tokenizer)?.train.len()).0 as u64)
}

/// Runs whose libtorch call throws must not take the sweep with them.
fn guarded(runs: &[StoredRun], task: &Rc<TaskData>, context: RunContext) -> Result<Vec<Result<Outcome>>> {
    torch_ext::device::allow_tf32(runs[0].0.train.precision == Precision::Tf32)?;
    panics::guarded(|| run(runs, task, context))
}
