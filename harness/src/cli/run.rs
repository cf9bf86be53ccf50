//! `rankbench run` and `rankbench quickstart`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::cli::job::{Job, RecipeFlags, recipe, width};
use crate::cli::stored::ReportFlags;
use crate::cli::values;
use crate::env::console::spoken;
use crate::error::{Error, Result};
use crate::launch::preflight::preflight;
use crate::launch::sweep::{SweepSummary, sweep};
use crate::launch::timing;
use crate::plan::recipe::Recipe;
use crate::report::write::{self, ReportPaths};
use crate::store::rows::TimingRow;

/// `rankbench run`.
#[derive(Debug, Args)]
pub struct Run {
    /// A recipe file, or the name of an embedded one; `rankbench list recipes` says what there is.
    #[arg(value_name = "RECIPE")]
    named: Option<String>,
    /// The same as a flag.
    #[arg(long, conflicts_with = "named")]
    recipe: Option<String>,
    /// Runs go to OUT/runs, the report to OUT/report.
    #[arg(long, default_value = "results", value_name = "OUT")]
    out: PathBuf,
    /// Train up to this many seeds of a task and method side by side on one backbone: the results are those of separate
    /// runs within rounding, in less time and more memory.
    #[arg(long, visible_alias = "together", default_value = "1", value_name = "SEEDS")]
    stack: NonZeroUsize,
    /// Print the resolved runs and stop.
    #[arg(long)]
    dry_run: bool,
    /// Make finished runs again: what is stored of them is deleted first.
    #[arg(long, conflicts_with = "dry_run")]
    force: bool,
    /// Report on the runs of this command alone, not on all that are stored in OUT.
    #[arg(long)]
    only_plan: bool,
    #[command(flatten)]
    flags: RecipeFlags,
    #[command(flatten)]
    report: ReportFlags,
}

/// `rankbench quickstart`.
#[derive(Debug, Args)]
pub struct Quickstart {
    /// Runs go to OUT/runs, the report to OUT/report.
    #[arg(long, default_value = "results/quickstart", value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    flags: RecipeFlags,
    #[command(flatten)]
    report: ReportFlags,
}

impl Run {
    pub(super) fn run(&self) -> Result<()> {
        let given = self.named.as_ref().or(self.recipe.as_ref());
        let recipe = recipe(given.ok_or_else(|| Error::Usage(values::which_recipe()))?)?;
        let job = self.flags.job(&recipe)?;
        if self.dry_run {
            return print_plan(&job);
        }
        if self.force {
            delete_finished(&job, &self.out)?;
        }
        let swept = make_runs(&job, &self.out, self.stack.get())?;
        let plan = job.plan.iter().map(|spec| spec.id()).collect();
        let frame = self.report.frame(&self.out, self.only_plan.then_some(&plan))?;
        let paths = self.report.write(&frame, &self.out)?;
        print(&paths, &["table1"])?;
        verdict(swept)
    }
}

impl Quickstart {
    pub(super) fn run(&self) -> Result<()> {
        let started = Instant::now();
        let recipe = recipe("quick")?;
        let job = self.flags.job(&recipe)?;
        let swept = make_runs(&job, &self.out, 1)?;
        time_methods(&job, &recipe, &self.out)?;
        let frame = self.report.frame(&self.out, None)?;
        let paths = self.report.write(&frame, &self.out)?;
        print(&paths, &["table1", "efficiency"])?;
        println!("Took {}.", spoken(started.elapsed()));
        verdict(swept)
    }
}

fn make_runs(job: &Job, out: &Path, together: usize) -> Result<SweepSummary> {
    preflight(&job.plan, &job.inputs, &job.data)?;
    sweep(
        &job.plan,
        &job.inputs,
        &job.data,
        &job.origin,
        &out.join("runs"),
        together,
        (&job.stop, job.checkpoint_every),
    )
}

/// Deletes the finished runs of the plan.
fn delete_finished(job: &Job, out: &Path) -> Result<()> {
    for spec in &job.plan {
        let path = out.join("runs").join(spec.id());
        if path.join("DONE").exists() {
            std::fs::remove_dir_all(&path).map_err(|e| Error::output(&path, e))?;
            eprintln!("{}: deleted, it is made again", spec.id());
        }
    }
    Ok(())
}

/// Makes the interleaved timing of a recipe that asks for one, on its first task and seed; once.
fn time_methods(job: &Job, recipe: &Recipe, out: &Path) -> Result<()> {
    let path = out.join("timings.csv");
    let Some(timing) = &recipe.timing else { return Ok(()) };
    let is_known = |rows: Vec<TimingRow>| rows.iter().any(|row| row.repeat == timing.rounds);
    if path.exists() && is_known(write::read_timings(&path)?) {
        return Ok(());
    }
    timing::measure(&timing::timed(&job.plan, timing), timing, &job.inputs, &job.data, out, &job.stop).map(drop)
}

fn print(paths: &ReportPaths, tables: &[&str]) -> Result<()> {
    println!("{}", paths.text(tables, width())?);
    println!("Report: {}", paths.html.display());
    Ok(())
}

fn verdict(swept: SweepSummary) -> Result<()> {
    match swept.failed {
        0 => Ok(()),
        failed => Err(Error::RunsFailed { failed, total: swept.total }),
    }
}

fn print_plan(job: &Job) -> Result<()> {
    for spec in &job.plan {
        let text = toml::to_string(spec).map_err(|e| Error::Internal(format!("run.toml: {e}")))?;
        println!("# {}\n{text}", spec.id());
    }
    Ok(())
}
