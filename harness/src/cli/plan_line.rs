//! `rankbench run --write-plan FILE` and `rankbench run --plan FILE --index I`: a sweep as jobs of a cluster.

use std::path::Path;

use clap::{Args, Command, FromArgMatches};

use crate::cli::job::Job;
use crate::cli::plan::Estimates;
use crate::cli::run::{Run, make_line};
use crate::env::output;
use crate::error::{Error, Result};
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
    let need = |stack: &[&RunSpec]| {
        let mut need = Need::default();
        for spec in stack {
            let rows = job.data.of_run(spec, &job.backbone.tokenizer)?.train.len();
            let (steps, _) = lengths(&spec.train, rows);
            need.steps += steps as u64;
            if let Some(known) = &mut known {
                let found = known.of(spec, &job)?;
                let seconds = found.seconds(steps, evaluations(&spec.train, rows));
                need.seconds = Some(need.seconds.unwrap_or(0.0) + seconds);
                need.memory_mib = [need.memory_mib, found.peak_mib].into_iter().flatten().reduce(f64::max);
            }
        }
        Ok(need)
    };
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
