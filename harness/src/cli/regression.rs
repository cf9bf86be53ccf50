//! `rankbench regression`: the gate that CI runs.

use std::path::{Path, PathBuf};

use clap::Args;

use super::shared::{RecipeFlags, recipe};
use crate::error::{Error, Result};
use crate::store::{self, RunRecord, Status};
use crate::sweep::{preflight, sweep};
use crate::{gate, home};

/// `rankbench regression`.
#[derive(Debug, Args)]
pub struct Regression {
    /// A recipe file, or an embedded one.
    #[arg(long, default_value = "regression")]
    recipe: String,
    #[command(flatten)]
    flags: RecipeFlags,
    /// Baseline to compare with; results/baselines/<recipe name>.csv when left out.
    #[arg(long, value_name = "CSV")]
    baseline: Option<PathBuf>,
    /// Take what comes out as the new baseline.
    #[arg(long)]
    bless: bool,
}

impl Regression {
    pub(super) fn run(&self) -> Result<()> {
        let recipe = recipe(&self.recipe)?;
        let named = home::dir().join("results/baselines").join(format!("{}.csv", recipe.name));
        let path = self.baseline.clone().unwrap_or(named);
        let baseline = if self.bless { Vec::new() } else { gate::read(&path)? };
        let current = gate::baseline_rows(&self.fresh_runs()?);
        if self.bless {
            gate::bless(&path, &current)?;
            println!("wrote {} rows to {}", current.len(), path.display());
            return Ok(());
        }
        let report = gate::compare(&baseline, &current);
        if report.passed {
            println!("{report}");
            return Ok(());
        }
        Err(Error::Regression(format!(
            "{report}\nIf the change is meant, run `just regression --bless` and commit {}",
            path.display()
        )))
    }

    /// The recipe's runs, always made anew: a stored run would hide what changed.
    fn fresh_runs(&self) -> Result<Vec<RunRecord>> {
        let recipe = recipe(&self.recipe)?;
        let job = self.flags.job(&recipe)?;
        preflight(&job.plan, &job.inputs, &job.data)?;
        let scratch = Scratch::new()?;
        sweep(&job.plan, &job.inputs, &job.data, &scratch.0, &job.stop)?;
        let runs = job.plan.iter().map(|spec| store::load(&scratch.0.join(spec.id()))).collect::<Result<Vec<_>>>()?;
        for run in &runs {
            if let Status::Failed(reason) = &run.status {
                eprintln!("{} failed: {reason}", run.id);
            }
        }
        Ok(runs)
    }
}

/// A directory that goes away with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("rankbench-regression-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| Error::output(Path::new(&path), e))?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
