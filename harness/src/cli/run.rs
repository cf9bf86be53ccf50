//! `rankbench run` and `rankbench quickstart`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::analysis::frame::predictions::TestSets;
use crate::analysis::results::{ReadRun, ResultsFrame};
use crate::cli::gpus::Gpus;
use crate::cli::job::{Job, RecipeFlags, recipe, width};
use crate::cli::plan;
use crate::cli::report::ReportFlags;
use crate::env::console::spoken;
use crate::env::output;
use crate::error::{Error, Result};
use crate::launch::plan_file::PlanLine;
use crate::launch::preflight::preflight;
use crate::launch::sweep::{SweepOptions, SweepSummary, sweep};
use crate::launch::timing;
use crate::plan::recipe::Recipe;
use crate::report::write::{self, ReportPaths};
use crate::store::files::write_atomically;
use crate::store::read;
use crate::store::record::RunRecord;
use crate::store::rows::TimingRow;
use crate::store::run_store::RunStore;

/// `rankbench run`.
#[derive(Debug, Args)]
pub struct Run {
    /// A recipe file, or an embedded recipe: quick, table1, table2, figure3, figure4, minilm_glue, ablation, tune, efficiency, regression.
    #[arg(long, default_value = "table1")]
    pub recipe: String,
    #[command(flatten)]
    pub flags: RecipeFlags,
    /// Runs go to OUT/runs, the report to OUT/report.
    #[arg(long, default_value = "results", value_name = "OUT")]
    pub out: PathBuf,
    /// Train up to this many seeds of a task and method side by side on one backbone: the results are those of separate
    /// runs within rounding, in less time and more memory.
    #[arg(long, default_value = "1", value_name = "SEEDS")]
    pub together: NonZeroUsize,
    /// Whether runs that other processes make in OUT are waited for, and made here where they come to no end.
    #[arg(long, default_value = "on")]
    wait: Wait,
    /// Train on several GPUs at once, a process each: `all`, or numbers such as `0,1`. The numbers are those of one GPU.
    #[arg(long, value_name = "GPUS")]
    pub gpus: Option<Gpus>,
    /// Worker processes for each GPU, or on the CPU; more than one share it.
    #[arg(long, default_value = "1", value_name = "N")]
    pub jobs: NonZeroUsize,
    /// Be a worker: take the longest runs first, tell the progress to the parent, write no report.
    #[arg(long, hide = true)]
    pub worker: bool,
    /// Write the runs as a plan for jobs of a cluster, one line each, and stop.
    #[arg(long, value_name = "JSONL", conflicts_with_all = ["dry_run", "plan"])]
    pub write_plan: Option<PathBuf>,
    /// Make one line of a plan that --write-plan wrote; flags given here come after the plan's.
    #[arg(long, value_name = "JSONL", conflicts_with = "dry_run")]
    pub plan: Option<PathBuf>,
    /// The line, from 0. Left out: SLURM_ARRAY_TASK_ID, HQ_TASK_ID or JOB_COMPLETION_INDEX.
    #[arg(long, value_name = "I", requires = "plan")]
    pub index: Option<usize>,
    /// Print the resolved runs and stop.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    report: ReportFlags,
}

/// `--wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wait {
    /// Waited for.
    On,
    /// Left to them; the command ends with 75.
    Off,
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
        let swept = self.make(&job)?;
        if !self.worker {
            self.write_report(&labels(&job))?;
        }
        verdict(swept)
    }

    fn make(&self, job: &Job) -> Result<SweepSummary> {
        let way = Way { together: self.together.get(), wait: self.wait == Wait::On, is_worker: self.worker };
        make_runs(job, &self.out, way)
    }

    /// Writes the report of stored runs, and prints its tables.
    ///
    /// # Errors
    /// A file that cannot be read or written.
    pub fn write_report(&self, runs: &[(String, Option<String>)]) -> Result<()> {
        let (runs, peers) = (read_runs(runs, &self.out)?, self.report.peers(&self.out)?);
        let frame = ResultsFrame { peers, margin: self.report.margin, ..ResultsFrame::of_runs(runs) };
        let paths = write::write(&frame, &self.out.join("report"))?;
        print(&paths, &["claims", "table1", "table2", "schedule", "rank_agreement"])
    }
}

/// Makes the runs of one line of a plan. Their report is written once all lines are made.
///
/// # Errors
/// As a run; a line that does not fit what is here.
pub fn make_line(run: &Run, line: &PlanLine) -> Result<()> {
    let job = run.flags.job(&recipe(&run.recipe)?)?;
    let plan = line.runs(&job.plan)?;
    let swept = run.make(&Job { plan, ..job })?;
    output::print(format_args!("{} runs of line {}; `rankbench report` shows them", swept.total, line.index));
    verdict(swept)
}

impl Quickstart {
    pub(super) fn run(&self) -> Result<()> {
        let started = Instant::now();
        let recipe = recipe("quick")?;
        let job = self.flags.job(&recipe)?;
        let swept = make_runs(&job, &self.out, Way::of(1))?;
        let timings = timings(&job, &recipe, &self.out)?;
        let runs = records(&job, &self.out)?;
        let frame = ResultsFrame { timings, ..ResultsFrame::of_runs(runs) };
        let paths = write::write(&frame, &self.out.join("report"))?;
        print(&paths, &["table1", "efficiency"])?;
        output::print(format_args!("Took {}.", spoken(started.elapsed())));
        verdict(swept)
    }
}

/// Way in which a command makes its runs.
#[derive(Clone, Copy)]
pub(super) struct Way {
    /// Runs that share a step, at most.
    pub together: usize,
    /// Whether runs that other processes make are waited for.
    pub wait: bool,
    /// Whether this process is a worker of another.
    pub is_worker: bool,
}

impl Way {
    /// The way of a process that works alone or beside others like it.
    pub fn of(together: usize) -> Self {
        Way { together, wait: true, is_worker: false }
    }
}

/// Stores the recipe as it was resolved, and makes its runs.
pub(super) fn make_runs(job: &Job, out: &Path, way: Way) -> Result<SweepSummary> {
    preflight(&job.plan, &job.inputs, &job.data)?;
    if !way.is_worker {
        output::note(plan::counts(job)?);
        let recipe = out.join("recipes").join(format!("{}.toml", job.recipe.name));
        write_atomically(&recipe, job.recipe.to_toml()?.as_bytes())?;
    }
    let Way { together, wait, is_worker } = way;
    let options = SweepOptions { together, wait, is_worker, checkpoint_every: job.checkpoint_every, stop: &job.stop };
    sweep(&job.plan, &job.inputs, &job.data, &job.origin, &RunStore::open(&out.join("runs")), options)
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

/// Ids of a job's runs, each with its label.
fn labels(job: &Job) -> Vec<(String, Option<String>)> {
    job.plan.iter().map(|spec| (spec.id(), Some(spec.label.clone()))).collect()
}

/// The stored runs of the plan, in its order.
pub(super) fn records(job: &Job, out: &Path) -> Result<Vec<ReadRun>> {
    read_runs(&labels(job), out)
}

/// Stored runs by id. A label given here replaces the stored one, which may be another recipe's.
fn read_runs(runs: &[(String, Option<String>)], out: &Path) -> Result<Vec<ReadRun>> {
    let known = TestSets::default();
    let paths: Vec<PathBuf> = runs.iter().map(|(id, _)| out.join("runs").join(id)).collect();
    let labels: BTreeMap<&str, &str> =
        runs.iter().filter_map(|(id, label)| Some((id.as_str(), label.as_deref()?))).collect();
    let read = |mut run: RunRecord| {
        if let Some(label) = labels.get(run.id.as_str()) {
            run.spec.label = label.to_string();
        }
        ReadRun::of(&run, &known)
    };
    read::load_each(&paths, read).into_iter().collect()
}

pub(super) fn print(paths: &ReportPaths, tables: &[&str]) -> Result<()> {
    output::print(paths.text(tables, width())?);
    output::print(format_args!("Report: {}", paths.html.display()));
    Ok(())
}

/// The error of a sweep in which runs failed, or were left to others.
pub fn verdict(swept: SweepSummary) -> Result<()> {
    match swept {
        SweepSummary { failed: 0, held: 0, .. } => Ok(()),
        SweepSummary { failed: 0, held, total, .. } => Err(Error::HeldElsewhere { held, total }),
        SweepSummary { failed, total, .. } => Err(Error::RunsFailed { failed, total }),
    }
}

fn print_plan(job: &Job) -> Result<()> {
    for spec in &job.plan {
        let text = toml::to_string(spec).map_err(|e| Error::Internal(format!("run.toml: {e}")))?;
        output::print(format_args!("# {}\n{text}", spec.id()));
    }
    Ok(())
}
