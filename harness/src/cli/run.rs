//! `rankbench run` and `rankbench quickstart`.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::{ArgGroup, Args, ValueEnum};

use crate::cli::damage;
use crate::cli::gpus::Gpus;
use crate::cli::job::{Job, RecipeFlags, recipe};
use crate::cli::plan;
use crate::cli::stack::StackFlag;
use crate::cli::stored::{Labelled, ReportFlags};
use crate::cli::values;
use crate::env::console::spoken;
use crate::env::output;
use crate::error::{Error, Result};
use crate::launch::plan_file::PlanLine;
use crate::launch::preflight::preflight;
use crate::launch::stack_size::StackSize;
use crate::launch::sweep::{SweepOptions, SweepSummary, Way, sweep};
use crate::launch::timing;
use crate::plan::recipe::Recipe;
use crate::plan::spec::RunSpec;
use crate::report::write;
use crate::store::files::write_atomically;
use crate::store::rows::TimingRow;
use crate::store::run_store::RunStore;

/// `rankbench run`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("planning").args(["dry_run", "write_plan"]))]
pub struct Run {
    /// A recipe file, or the name of an embedded one; `rankbench list recipes` says what there is.
    #[arg(value_name = "RECIPE")]
    named: Option<String>,
    /// The same as a flag.
    #[arg(long, conflicts_with = "named")]
    recipe: Option<String>,
    /// Runs go to OUT/runs, the report to OUT/report.
    #[arg(long, default_value = "results", value_name = "OUT")]
    pub out: PathBuf,
    #[command(flatten)]
    pub stack: StackFlag,
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
    #[arg(long, value_name = "JSONL", conflicts_with_all = ["plan", "json", "gpus", "jobs"])]
    pub write_plan: Option<PathBuf>,
    /// Time a few steps of every kind of run on this device, so that the plan or the dry run says how long each takes.
    #[arg(long, requires = "planning")]
    pub measure: bool,
    /// Make one line of a plan that --write-plan wrote; flags given here come after the plan's.
    #[arg(long, value_name = "JSONL", conflicts_with_all = ["dry_run", "json", "gpus", "jobs"])]
    pub plan: Option<PathBuf>,
    /// The line, from 0. Left out: SLURM_ARRAY_TASK_ID, HQ_TASK_ID or JOB_COMPLETION_INDEX.
    #[arg(long, value_name = "I", requires = "plan")]
    pub index: Option<usize>,
    /// Check everything that can be checked before the first step, print a line a run and the sums, and stop. Fetches nothing.
    /// `--dry-run=toml` prints the resolved runs, `--dry-run --json` the lines for a script.
    #[arg(long, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "lines")]
    pub dry_run: Option<DryRun>,
    /// Make finished runs again: what is stored of them is deleted first.
    #[arg(long, conflicts_with_all = ["dry_run", "write_plan", "plan"])]
    pub force: bool,
    /// Report on the runs of this command alone, not on all that are stored in OUT.
    #[arg(long)]
    only_plan: bool,
    #[command(flatten)]
    pub flags: RecipeFlags,
    #[command(flatten)]
    report: ReportFlags,
}

/// `--dry-run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// A line a run, and the sums.
    Lines,
    /// Every run's `run.toml`.
    Toml,
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
    /// Runs go to OUT/runs, the report to OUT/report.
    #[arg(long, default_value = "results/quickstart", value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    flags: RecipeFlags,
    #[command(flatten)]
    report: ReportFlags,
}

impl Run {
    /// The recipe that was named.
    ///
    /// # Errors
    /// None was, or one that is not there.
    pub fn recipe(&self) -> Result<Recipe> {
        let given = self.named.as_ref().or(self.recipe.as_ref());
        recipe(given.ok_or_else(|| Error::Usage(values::which_recipe()))?)
    }

    pub(super) fn run(&self) -> Result<()> {
        let job = self.flags.job(&self.recipe()?)?;
        // The parent of a worker has done it: a second worker would delete the runs of the first.
        if self.force && !self.worker {
            self.delete_finished(&job)?;
        }
        let swept = self.make(&job, self.only_plan)?;
        if !self.worker {
            self.write_report(&labels(&job), &job.stop)?;
        }
        verdict(swept)
    }

    /// Deletes the finished runs of the plan.
    ///
    /// # Errors
    /// A directory that cannot be deleted.
    pub fn delete_finished(&self, job: &Job) -> Result<()> {
        for spec in &job.plan {
            let path = self.out.join("runs").join(spec.id());
            if path.join("DONE").exists() {
                std::fs::remove_dir_all(&path).map_err(|e| Error::output(&path, e))?;
                output::note(format_args!("{}: deleted, it is made again", spec.id()));
            }
        }
        Ok(())
    }

    fn make(&self, job: &Job, only_plan: bool) -> Result<SweepSummary> {
        let way = Way { stack: self.stack.stack, wait: self.wait == Wait::On, is_worker: self.worker };
        make_runs(job, &self.out, only_plan, way)
    }

    /// Writes the report of stored runs, those of the plan first, and prints its tables.
    ///
    /// # Errors
    /// A file that cannot be read or written; a stop signal before the report is whole.
    pub fn write_report(&self, plan: &[Labelled], stop: &AtomicBool) -> Result<()> {
        let frame = self.report.frame(&self.out, plan, self.only_plan, stop)?;
        let paths = self.report.write(&frame, &self.out, stop)?;
        self.report.print(&paths, &["claims", "table1", "one_task", "table2", "schedule", "rank_agreement"])
    }

    /// Whether what is printed is JSON.
    pub fn is_json(&self) -> bool {
        self.report.json
    }
}

/// Makes the runs of one line of a plan. Their report is written once all lines are made.
///
/// # Errors
/// As a run; a line that does not fit what is here.
pub fn make_line(run: &Run, line: &PlanLine) -> Result<()> {
    let job = run.flags.job(&run.recipe()?)?;
    let plan = line.runs(&job.plan)?;
    // A job of many reads the runs of its line alone, however many are stored.
    let swept = run.make(&Job { plan, ..job }, true)?;
    output::print(format_args!("{} runs of line {}; `rankbench report` shows them", swept.total, line.index));
    verdict(swept)
}

impl Quickstart {
    pub(super) fn run(&self) -> Result<()> {
        let started = Instant::now();
        let recipe = recipe("quick")?;
        let job = self.flags.job(&recipe)?;
        let swept = make_runs(&job, &self.out, false, Way::of(StackSize::ONE))?;
        time_methods(&job, &recipe, &self.out)?;
        let frame = self.report.frame(&self.out, &labels(&job), false, &job.stop)?;
        let paths = self.report.write(&frame, &self.out, &job.stop)?;
        self.report.print(&paths, &["table1", "efficiency"])?;
        output::note(format_args!("Took {}.", spoken(started.elapsed())));
        verdict(swept)
    }
}

/// Stores the recipe as it was resolved, names damaged runs among those stored (with `only_plan`, among those of the plan), and makes
/// the others.
pub(super) fn make_runs(job: &Job, out: &Path, only_plan: bool, way: Way) -> Result<SweepSummary> {
    preflight(&job.plan, &job.backbone, &job.data)?;
    // The parent of a worker has read them.
    let damaged = match way.is_worker {
        true => BTreeSet::new(),
        false => damage::find(out, only_plan.then_some(&job.plan))?,
    };
    if !way.is_worker {
        output::note(plan::counts(job)?);
    }
    let recipe = out.join("recipes").join(format!("{}.toml", job.recipe.name));
    write_atomically(&recipe, job.recipe.to_toml()?.as_bytes())?;
    let Job { checkpoint_every, log_steps, ref stop, .. } = *job;
    let options = SweepOptions { way, checkpoint_every, log_steps, damaged: &damaged, stop };
    let swept = sweep(&job.plan, &job.backbone, &job.data, &job.origin, &RunStore::open(&out.join("runs")), options)?;
    Ok(SweepSummary { damaged: damage::count(out, &damaged, job.plan.iter().map(RunSpec::id)), ..swept })
}

/// Makes the interleaved timing of a recipe that asks for one, on its first task and seed; once.
fn time_methods(job: &Job, recipe: &Recipe, out: &Path) -> Result<()> {
    let path = out.join("timings.csv");
    let Some(timing) = &recipe.timing else { return Ok(()) };
    let is_known = |rows: Vec<TimingRow>| rows.iter().any(|row| row.repeat == timing.rounds);
    if path.exists() && is_known(write::read_timings(&path)?) {
        return Ok(());
    }
    timing::measure(&timing::timed(&job.plan, timing), timing, &job.backbone, &job.data, out, &job.stop).map(drop)
}

/// Ids of a job's runs, each with its label.
pub(super) fn labels(job: &Job) -> Vec<Labelled> {
    job.plan.iter().map(|spec| (spec.id(), Some(spec.label.clone()))).collect()
}

/// The error of a sweep in which runs failed, were left to others, or were damaged before it.
pub fn verdict(swept: SweepSummary) -> Result<()> {
    match swept {
        SweepSummary { failed: 0, held: 0, damaged: 0, .. } => Ok(()),
        SweepSummary { failed: 0, held: 0, damaged, total } => Err(Error::RunsDamaged { damaged, total }),
        SweepSummary { failed: 0, held, total, .. } => Err(Error::HeldElsewhere { held, total }),
        SweepSummary { failed, total, .. } => Err(Error::RunsFailed { failed, total }),
    }
}
