//! `rankbench run --gpus` and `--jobs`: a sweep by several worker processes.

use crate::cli::damage;
use crate::cli::gpus::workers;
use crate::cli::run::{Run, verdict};
use crate::env::{output, signals};
use crate::error::{Error, Result};
use crate::launch::pool::{PoolSummary, pool};
use crate::launch::stack_size::StackSize;
use crate::launch::sweep::SweepSummary;
use crate::store::survey::{RunState, state};

/// Makes the runs of a recipe by workers, and then their report.
///
/// # Errors
/// As a run; no worker came to the end of the plan.
pub fn run(command: &Run) -> Result<()> {
    if command.stack.stack == StackSize::Auto {
        return Err(Error::Usage(
            "--stack auto measures by itself, expected a number with --gpus or --jobs: all workers take the same stacks".into(),
        ));
    }
    let workers = workers(command.gpus.as_ref(), command.flags.machine.device, command.jobs.get())?;
    let stop = match command.force {
        true => {
            let job = command.flags.job(&command.recipe()?)?;
            command.delete_finished(&job)?;
            job.stop
        }
        false => signals::stop_flag()?,
    };
    let known = damage::find(&command.out, None)?;
    let PoolSummary { plan, lost } = pool(workers, &stop)?;
    let runs: Vec<_> = plan.iter().map(|id| (id.clone(), None)).collect();
    command.write_report(&runs, &stop)?;
    if !lost.is_empty() {
        output::note(format_args!("{} of the workers were left out; the others made their runs", lost.len()));
    }
    let mut failed = 0;
    for id in &plan {
        failed += usize::from(matches!(state(&command.out.join("runs").join(id))?, RunState::Failed));
    }
    let damaged = damage::count(&command.out, &known, plan.iter().cloned());
    verdict(SweepSummary { total: plan.len(), failed, held: 0, damaged })
}
