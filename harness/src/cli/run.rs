//! `rankbench run` and `rankbench quickstart`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use crate::analysis::frame::predictions::TestSets;
use crate::analysis::results::{ReadRun, ResultsFrame};
use crate::cli::job::{Job, RecipeFlags, recipe, width};
use crate::cli::report::ReportFlags;
use crate::env::console::spoken;
use crate::error::{Error, Result};
use crate::launch::preflight::preflight;
use crate::launch::sweep::{SweepSummary, sweep};
use crate::launch::timing;
use crate::plan::recipe::Recipe;
use crate::report::write::{self, ReportPaths};
use crate::store::read;
use crate::store::rows::TimingRow;

/// `rankbench run`.
#[derive(Debug, Args)]
pub struct Run {
    /// A recipe file, or an embedded recipe: quick, table1, minilm_glue, efficiency, regression.
    #[arg(long, default_value = "table1")]
    recipe: String,
    #[command(flatten)]
    flags: RecipeFlags,
    /// Runs go to OUT/runs, the report to OUT/report.
    #[arg(long, default_value = "results", value_name = "OUT")]
    out: PathBuf,
    /// Train up to this many seeds of a task and method side by side on one backbone: the results are those of separate
    /// runs within rounding, in less time and more memory.
    #[arg(long, default_value = "1", value_name = "SEEDS")]
    together: NonZeroUsize,
    /// Print the resolved runs and stop.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    report: ReportFlags,
}

/// `rankbench quickstart`.
#[derive(Debug, Args)]
pub struct Quickstart {
    #[command(flatten)]
    flags: RecipeFlags,
    /// Runs go to OUT/runs, the report to OUT/report.
    #[arg(long, default_value = "results/quickstart", value_name = "OUT")]
    out: PathBuf,
}

impl Run {
    pub(super) fn run(&self) -> Result<()> {
        let recipe = recipe(&self.recipe)?;
        let job = self.flags.job(&recipe)?;
        if self.dry_run {
            return print_plan(&job);
        }
        let swept = make_runs(&job, &self.out, self.together.get())?;
        let (runs, peers) = (records(&job, &self.out)?, self.report.peers(&self.out)?);
        let frame = ResultsFrame { peers, margin: self.report.margin, ..ResultsFrame::of_runs(runs) };
        let paths = write::write(&frame, &self.out.join("report"))?;
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
        let timings = timings(&job, &recipe, &self.out)?;
        let runs = records(&job, &self.out)?;
        let frame = ResultsFrame { timings, ..ResultsFrame::of_runs(runs) };
        let paths = write::write(&frame, &self.out.join("report"))?;
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

/// The interleaved timing of a recipe that asks for one, on its first task and seed; made once.
fn timings(job: &Job, recipe: &Recipe, out: &Path) -> Result<Vec<TimingRow>> {
    let path = out.join("timings.csv");
    let Some(timing) = &recipe.timing else { return Ok(Vec::new()) };
    let wanted = |row: &TimingRow| row.repeat == timing.rounds;
    if let Some(known) = path.exists().then(|| write::read_timings(&path)).transpose()?
        && known.iter().any(wanted)
    {
        return Ok(known);
    }
    timing::measure(&timing::timed(&job.plan, timing), timing, &job.inputs, &job.data, out, &job.stop)
}

/// The stored runs of the plan, in its order.
fn records(job: &Job, out: &Path) -> Result<Vec<ReadRun>> {
    let known = TestSets::default();
    let paths: Vec<PathBuf> = job.plan.iter().map(|spec| out.join("runs").join(spec.id())).collect();
    read::load_each(&paths, |run| ReadRun::of(&run, &known)).into_iter().collect()
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
