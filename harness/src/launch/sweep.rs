//! All runs of a plan: what is done stays done, what fails is stored as failed, the rest goes on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::env::console::{Progress, spoken};
use crate::env::{device, output, panics};
use crate::error::{Error, Result};
use crate::launch::headline::headline;
use crate::launch::stack_size::{StackSize, fastest};
use crate::launch::stacking::stacks;
use crate::load::backbone::Backbone;
use crate::load::task_data::{TaskCache, TokenizedTask};
use crate::plan::origin::RecipeRules;
use crate::plan::spec::{Precision, RunSpec};
use crate::store::holder::Holder;
use crate::store::leased_run::LeasedRun;
use crate::store::rows::Outcome;
use crate::store::run_store::{Leased, RunStore};
use crate::train::context::{RunContext, StoredRun};
use crate::train::run::run;
use crate::train::schedule::lengths;
use crate::train::stack_names::{names, title};

/// Bounds of the time between two looks at runs that other processes make.
const WAIT: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];

/// Numbers of runs of a sweep, by their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepSummary {
    /// Runs of the plan.
    pub total: usize,
    /// Runs that failed now.
    pub failed: usize,
    /// Runs that other processes make, and that were not waited for.
    pub held: usize,
    /// Runs that are stored and not as they were written.
    pub damaged: usize,
}

/// Way in which a process makes runs beside others.
#[derive(Clone, Copy)]
pub struct Way {
    /// Most runs that share their steps.
    pub stack: StackSize,
    /// Whether runs that other processes make are waited for, and made here where they come to no end.
    pub wait: bool,
    /// Whether this process is a worker: it takes the longest runs first and tells its progress to its parent.
    pub is_worker: bool,
}

impl Way {
    /// The way of a process that is no worker and waits for others.
    pub fn of(stack: StackSize) -> Self {
        Way { stack, wait: true, is_worker: false }
    }
}

/// Way in which a sweep makes its runs, and the means to interrupt it.
#[derive(Clone, Copy)]
pub struct SweepOptions<'a> {
    /// Its place beside other processes.
    pub way: Way,
    /// Time between two checkpoints of a run.
    pub checkpoint_every: Duration,
    /// Steps between two rows of a run's `steps.csv`; none where nobody says, 0 for no rows.
    pub log_steps: Option<usize>,
    /// Ids of runs that are stored and not as they were written: no one makes them.
    pub damaged: &'a BTreeSet<String>,
    /// Set by a stop signal.
    pub stop: &'a AtomicBool,
}

/// Makes every run that is not finished in `store`, in order.
///
/// # Errors
/// Ctrl-C, a file that cannot be written, input that can no longer be read. A run that fails is no error here.
pub fn sweep(
    plan: &[RunSpec],
    backbone: &Backbone,
    data: &TaskCache,
    origin: &RecipeRules,
    store: &RunStore,
    options: SweepOptions,
) -> Result<SweepSummary> {
    // A finished run stays as it is, damaged or not.
    let (done, open): (Vec<&RunSpec>, Vec<&RunSpec>) = plan.iter().partition(|spec| store.is_done(spec));
    open.iter().try_for_each(|spec| store.add(spec))?;
    let known = done.iter().filter(|spec| !options.damaged.contains(&spec.id())).count();
    if known > 0 && !options.way.is_worker {
        output::note(format_args!("{known} of {} runs are finished already", plan.len()));
    }
    let mut planned = 0;
    for spec in &open {
        planned += steps(spec, backbone, data)?;
    }
    let SweepOptions { way: Way { stack, wait, is_worker }, checkpoint_every, log_steps, stop, .. } = options;
    let progress = match is_worker {
        true => Progress::of_worker(plan.iter().map(RunSpec::id).collect(), open.len(), planned),
        false => Progress::new(open.len(), planned),
    };
    let context = RunContext { backbone, origin, progress: &progress, stop, checkpoint_every, log_steps };
    let mut sweep = Sweep { store, data, context, failed: 0, others: Vec::new() };
    let mut stacks = stacks(&open, |sharing| match stack {
        StackSize::Runs(runs) => Ok(runs.get()),
        StackSize::Auto => stack_size_of(sharing, &context, data),
    })?;
    if is_worker {
        longest_first(&mut stacks, backbone, data)?;
    }
    let made = sweep.make_all(stacks, wait);
    progress.finish();
    made?;
    let held = sweep.others.iter().map(|(stack, _)| stack.len()).sum();
    Ok(SweepSummary { total: plan.len(), failed: sweep.failed, held, damaged: 0 })
}

/// The size that measurement gives for stacks of these runs.
fn stack_size_of(sharing: &[&RunSpec], context: &RunContext, data: &TaskCache) -> Result<usize> {
    let (Some(first), true) = (sharing.first(), sharing.len() > 1) else { return Ok(1) };
    let task = data.of_run(first, &context.backbone.tokenizer)?;
    let (size, measured) = fastest(sharing, context.backbone, &task, context.stop)?;
    let among = sharing.len();
    context.progress.say(&format!("{}: stacks of {size} among {among} runs; {measured}", first.task));
    Ok(size)
}

/// Orders stacks by their work, the longest first: so that no worker begins a long one when the others are done.
fn longest_first(stacks: &mut [Vec<&RunSpec>], backbone: &Backbone, data: &TaskCache) -> Result<()> {
    let mut work = BTreeMap::new();
    for stack in stacks.iter() {
        let task = data.of_run(stack[0], &backbone.tokenizer)?;
        let tokens: usize = task.train.iter().map(|row| row.encoding.ids.len()).sum();
        work.insert(stack[0].id(), tokens * stack[0].train.epochs * stack.len());
    }
    stacks.sort_by_key(|stack| Reverse(work.get(&stack[0].id()).copied()));
    Ok(())
}

/// A sweep at work.
struct Sweep<'a> {
    store: &'a RunStore,
    data: &'a TaskCache,
    context: RunContext<'a>,
    failed: usize,
    /// Stacks with a run that another process makes, and which.
    others: Vec<(Vec<&'a RunSpec>, String)>,
}

impl<'a> Sweep<'a> {
    /// Makes stacks of runs, and then looks again at those that other processes had.
    fn make_all(&mut self, stacks: Vec<Vec<&'a RunSpec>>, wait: bool) -> Result<()> {
        stacks.into_iter().try_for_each(|stack| self.attempt(stack))?;
        // By now most of what others made is done.
        let others = std::mem::take(&mut self.others);
        others.into_iter().try_for_each(|(stack, _)| self.attempt(stack))?;
        if let Some((stack, holder)) = self.others.first() {
            let others = self.others.len();
            let first = format!("{} {} by {holder}", stack[0].task, stack[0].method);
            let waiting = if wait { "; waiting for them" } else { "" };
            self.context.progress.say(&format!("other processes make {others} of the rest, {first}{waiting}"));
        }
        let mut pause = WAIT[0];
        while wait && !self.others.is_empty() {
            if self.context.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            std::thread::sleep(pause);
            pause = WAIT[1].min(pause * 2);
            let others = std::mem::take(&mut self.others);
            others.into_iter().try_for_each(|(stack, _)| self.attempt(stack))?;
        }
        Ok(())
    }

    /// Makes a stack where all of its runs can be had.
    fn attempt(&mut self, stack: Vec<&'a RunSpec>) -> Result<()> {
        match self.lease(&stack)? {
            Ok(leased) => self.make(&leased),
            Err(holder) => {
                self.others.push((stack, holder.to_string()));
                Ok(())
            }
        }
    }

    /// The runs of a stack that are not finished; or the process that has one of them.
    fn lease(&self, stack: &[&'a RunSpec]) -> Result<std::result::Result<Vec<(&'a RunSpec, LeasedRun)>, Holder>> {
        let mut leased = Vec::new();
        for &spec in stack {
            match self.store.lease(spec)? {
                Leased::Mine(run) => leased.push((spec, run)),
                Leased::Done => {}
                Leased::Other(holder) => return Ok(Err(holder)),
            }
        }
        // Another process has finished the rest since the sweep began.
        let elsewhere = stack.len() - leased.len();
        self.context.progress.pass(elsewhere, elsewhere as u64 * steps(stack[0], self.context.backbone, self.data)?);
        Ok(Ok(leased))
    }

    /// Makes the runs of a stack.
    fn make(&mut self, leased: &[(&'a RunSpec, LeasedRun)]) -> Result<()> {
        let RunContext { backbone, progress, .. } = self.context;
        let Some(&(first, _)) = leased.first() else { return Ok(()) };
        let task = self.data.of_run(first, &backbone.tokenizer)?;
        let steps = steps(first, backbone, self.data)?;
        let specs: Vec<&RunSpec> = leased.iter().map(|(spec, _)| *spec).collect();
        progress.begin(&title(&specs), leased.len(), steps * leased.len() as u64);
        self.train(leased, &task, steps)
    }

    /// Trains the runs of a stack and keeps what each comes to; in halves where memory runs out.
    fn train(&mut self, leased: &[(&'a RunSpec, LeasedRun)], task: &Rc<TokenizedTask>, steps: u64) -> Result<()> {
        let RunContext { backbone, progress, .. } = self.context;
        let specs: Vec<&RunSpec> = leased.iter().map(|(spec, _)| *spec).collect();
        let started = Instant::now();
        let stored: Vec<StoredRun> = leased.iter().map(|(spec, run)| (*spec, run)).collect();
        let outcomes = match guarded(&stored, task, self.context) {
            Err(error) if error.ends_the_sweep() => return Err(error),
            Err(error) if error.is_out_of_memory() && leased.len() > 1 => {
                progress.say(&format!("memory ran out with {} runs side by side: now half as many", leased.len()));
                torch_ext::device::release_memory(backbone.device)?;
                let (first, second) = leased.split_at(leased.len() / 2);
                self.train(first, task, steps)?;
                return self.train(second, task, steps);
            }
            Err(error) => leased.iter().map(|_| Err(Failure::of(&error))).collect::<Vec<_>>(),
            Ok(outcomes) => outcomes.into_iter().map(|outcome| outcome.map_err(|error| Failure::of(&error))).collect(),
        };
        for ((outcome, (spec, run)), name) in outcomes.into_iter().zip(leased).zip(names(&specs)) {
            let whose = if leased.len() > 1 { format!("{name}: ") } else { String::new() };
            match outcome {
                Ok(outcome) => {
                    progress.end(&format!("{whose}{} in {}", headline(spec, &outcome), spoken(started.elapsed())))
                }
                Err(Failure::Lost(reason)) => self.lose(spec, &format!("{whose}{reason}")),
                Err(Failure::Failed(reason)) if !device::is_usable(backbone.device) => {
                    let device = device::name(backbone.device);
                    return Err(Error::Environment(format!(
                        "{device} has failed, and its run is left to others: {reason}"
                    )));
                }
                Err(Failure::Failed(reason)) => match run.fail(&reason) {
                    Ok(()) => {
                        self.failed += 1;
                        progress.skip(steps);
                        progress.end(&format!("{whose}FAILED: {reason}"));
                    }
                    Err(error @ Error::LeaseLost { .. }) => self.lose(spec, &format!("{whose}{error}")),
                    Err(error) => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Leaves a run to the process that took it over, and looks at it again at the end.
    fn lose(&mut self, spec: &'a RunSpec, said: &str) {
        self.context.progress.end(said);
        self.others.push((vec![spec], "the process that took it over".into()));
    }
}

/// Reason why a run came to no outcome here.
enum Failure {
    /// Another process took it over.
    Lost(String),
    /// It failed.
    Failed(String),
}

impl Failure {
    fn of(error: &Error) -> Self {
        match error {
            Error::LeaseLost { .. } => Failure::Lost(error.to_string()),
            error => Failure::Failed(error.to_string()),
        }
    }
}

/// Optimiser steps of a run.
fn steps(spec: &RunSpec, backbone: &Backbone, data: &TaskCache) -> Result<u64> {
    Ok(lengths(&spec.train, data.of_run(spec, &backbone.tokenizer)?.train.len()).0 as u64)
}

/// Runs whose libtorch call throws must not take the sweep with them.
fn guarded(runs: &[StoredRun], task: &Rc<TokenizedTask>, context: RunContext) -> Result<Vec<Result<Outcome>>> {
    torch_ext::device::allow_tf32(runs[0].0.train.precision == Precision::Tf32)?;
    panics::guarded(|| run(runs, task, context))
}
