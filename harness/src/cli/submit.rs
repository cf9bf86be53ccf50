//! `rankbench submit`: a plan as jobs of a cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args, Subcommand};

use crate::env::output;
use crate::error::{Error, Result};
use crate::launch::plan_file;
use crate::launch::slurm::{ArrayJob, minutes};
use crate::load::paths;
use crate::store::files::write_atomically;

/// `rankbench submit`.
#[derive(Debug, Args)]
pub struct Submit {
    #[command(subcommand)]
    to: Scheduler,
}

#[derive(Debug, Subcommand)]
enum Scheduler {
    /// An array job of Slurm: each task makes one line of the plan, and is put back into the queue until that is done.
    Slurm(Slurm),
}

/// `rankbench submit slurm`.
#[derive(Debug, Args)]
struct Slurm {
    /// The plan, as `rankbench run --write-plan FILE` writes it. Script and logs go to `slurm` beside it.
    #[arg(long, value_name = "JSONL")]
    plan: PathBuf,
    /// The program on the nodes, e.g. the launcher of a bundle. Left out: this one, with its launcher.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Minutes of each task. Left out: half as much again as the plan's longest line and five more, where the plan was written
    /// with --measure; else the partition's own limit.
    #[arg(long, value_name = "MINUTES")]
    time: Option<u64>,
    /// Most tasks at once.
    #[arg(long, value_name = "N")]
    at_once: Option<usize>,
    /// A flag for sbatch, such as --sbatch=--gpus=1; may be given several times.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    sbatch: Vec<String>,
    /// Write the script and do not submit it.
    #[arg(long)]
    dry_run: bool,
    /// Flags for `rankbench run`, after the plan's own.
    #[arg(last = true)]
    run: Vec<String>,
}

impl Submit {
    pub(super) fn run(&self) -> Result<()> {
        match &self.to {
            Scheduler::Slurm(slurm) => slurm.run(),
        }
    }
}

impl Slurm {
    fn run(&self) -> Result<()> {
        let lines = plan_file::read(&self.plan)?;
        let program = match &self.program {
            Some(program) => absolute(program)?,
            None => paths::program()?,
        };
        let plan = absolute(&self.plan)?;
        let logs = plan.with_file_name("slurm");
        let job = ArrayJob {
            program,
            plan,
            logs: logs.clone(),
            dir: absolute(Path::new("."))?,
            at_once: self.at_once,
            minutes: self.time.or_else(|| minutes(&lines)),
            sbatch: self.sbatch.clone(),
            run: self.run.clone(),
        };
        let name = self.plan.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let script = logs.join(format!("{name}.sh"));
        write_atomically(&script, job.script(lines.len())?.as_bytes())?;
        if self.dry_run {
            output::print(format_args!("sbatch {}", script.display()));
            return Ok(());
        }
        let submitted = Command::new("sbatch").arg(&script).output();
        let cannot = |reason: String| Error::Environment(format!("cannot submit {}: {reason}", script.display()));
        let submitted = submitted.map_err(|e| cannot(format!("sbatch: {e}")))?;
        if !submitted.status.success() {
            return Err(cannot(String::from_utf8_lossy(&submitted.stderr).trim().to_string()));
        }
        output::print(String::from_utf8_lossy(&submitted.stdout).trim());
        output::print(format_args!(
            "{} lines; `rankbench status --plan {}` says how they stand",
            lines.len(),
            self.plan.display()
        ));
        Ok(())
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::input(path, e))
}
