//! `rankbench run --write-plan FILE` and `rankbench run --plan FILE --index I`: a sweep as jobs of a cluster.

use std::path::Path;

use clap::{Args, Command, FromArgMatches};

use crate::cli::job::Job;
use crate::cli::plan::Estimates;
use crate::cli::run::{Run, make_line};
use crate::env::output;
use crate::error::{Error, Result};
use crate::launch::estimate::stack_cost;
use crate::launch::plan_file::{self, Need};
use crate::launch::stack_size::StackSize;
use crate::launch::stacking::stacks;
use crate::plan::spec::RunSpec;
use crate::train::schedule::{evaluations, lengths};

/// Writes the plan of `rankbench run` with these flags, a line for each stack of runs.
///
/// # Errors
/// As a run before its first step; a file that cannot be written.
pub fn write(path: &Path, command: &Run) -> Result<()> {
    let job: Job = command.flags.job(&command.recipe()?)?;
    let runs: Vec<&RunSpec> = job.plan.iter().collect();
    let mut known = command.measure.then(Estimates::default);
    let need = |stack: &[&RunSpec]| need_of(stack, &job, known.as_mut());
    let StackSize::Runs(size) = command.stack.stack else {
        return Err(Error::Usage(
            "--stack auto measures on the machine that trains, expected a number with --write-plan: a line's runs are fixed".into(),
        ));
    };
    let lines = plan_file::lines(&stacks(&runs, |_| Ok(size.get()))?, &plan_arguments(), need)?;
    plan_file::write(path, &lines)?;
    let (count, shown) = (lines.len(), path.display());
    output::print(format_args!(
        "{shown}: {count} lines; `rankbench run --plan {shown} --index I` makes one, 0 to {}",
        count.saturating_sub(1)
    ));
    Ok(())
}

/// Steps of a line's runs; their seconds and memory where steps are timed.
fn need_of(stack: &[&RunSpec], job: &Job, known: Option<&mut Estimates>) -> Result<Need> {
    let Some(first) = stack.first() else { return Ok(Need::default()) };
    let task = job.data.of_run(first, &job.backbone.tokenizer)?;
    let rows = task.train.len();
    let (steps, _) = lengths(&first.train, rows);
    let all_steps = (steps * stack.len()) as u64;
    let Some(known) = known else { return Ok(Need { steps: all_steps, ..Need::default() }) };
    let found = stack.iter().map(|spec| known.of(spec, job)).collect::<Result<Vec<_>>>()?;
    // Runs side by side take one step for all of them, and more memory than one.
    let (step_seconds, memory_mib) = match (stack, found.as_slice()) {
        ([_], [found]) => (found.step_seconds, found.peak_mib),
        _ => stack_cost(stack, &job.backbone, &task)?,
    };
    let evaluation_seconds: f64 = found.iter().map(|found| found.evaluation_seconds).sum();
    let seconds = step_seconds * steps as f64 + evaluation_seconds * evaluations(&first.train, rows) as f64;
    Ok(Need { steps: all_steps, seconds: Some(seconds), memory_mib })
}

/// Makes one line of a plan, under the flags it was written with and those given now, which come after them.
///
/// # Errors
/// As a run; a line that is not there, or that does not fit what is here.
pub fn make(path: &Path, index: Option<usize>) -> Result<()> {
    let line = plan_file::line(path, index)?;
    let command = Run::augment_args(Command::new("rankbench run")).args_override_self(true);
    let flags = std::iter::once("run".to_string()).chain(line.arguments.iter().cloned()).chain(arguments(""));
    let matches = command.try_get_matches_from(flags).map_err(|e| {
        Error::Usage(format!("the flags of {}, line {}: {}", path.display(), line.index + 1, e.render()))
    })?;
    let run = Run::from_arg_matches(&matches).map_err(|e| Error::Usage(e.to_string()))?;
    make_line(&run, &line)
}

/// The flags that every line of a plan has: those of this `rankbench run` without those of the writing.
fn plan_arguments() -> Vec<String> {
    arguments("--write-plan").into_iter().filter(|argument| argument != "--measure").collect()
}

/// The flags of this `rankbench run` but one, with its value.
fn arguments(without: &str) -> Vec<String> {
    let mut given = std::env::args_os().skip(2).map(|argument| argument.to_string_lossy().into_owned());
    let mut kept = Vec::new();
    while let Some(argument) = given.next() {
        if argument == without {
            given.next();
        } else if without.is_empty() || !argument.starts_with(&format!("{without}=")) {
            kept.push(argument);
        }
    }
    kept
}
