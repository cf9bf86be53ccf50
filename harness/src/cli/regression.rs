//! `rankbench regression`: the baseline check that CI runs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use crate::analysis::baseline;
use crate::analysis::baseline::BaselineRow;
use crate::cli::job::{Job, RecipeFlags, recipe};
use crate::env::output;
use crate::error::{Error, Result};
use crate::launch::preflight::preflight;
use crate::launch::stack_size::StackSize;
use crate::launch::sweep::{SweepOptions, Way, sweep};
use crate::launch::timing::{measure, timed};
use crate::load::paths;
use crate::plan::recipe::Recipe;
use crate::report::baseline::{json, text};
use crate::store::read;
use crate::store::record::Status;
use crate::store::run_store::RunStore;

/// `rankbench regression`.
#[derive(Debug, Args)]
pub struct Regression {
    /// A recipe file, or the name of an embedded one, in place of --recipe.
    #[arg(value_name = "RECIPE", conflicts_with = "recipe")]
    named: Option<String>,
    /// A recipe file, or an embedded one.
    #[arg(long, default_value = "regression")]
    recipe: String,
    /// Baseline to compare with; results/baselines/<recipe name>.csv when left out.
    #[arg(long, value_name = "CSV")]
    baseline: Option<PathBuf>,
    /// Take what comes out as the new baseline.
    #[arg(long)]
    bless: bool,
    /// Print what moved as JSON.
    #[arg(long, conflicts_with = "bless")]
    json: bool,
    #[command(flatten)]
    flags: RecipeFlags,
}

impl Regression {
    pub(super) fn run(&self) -> Result<()> {
        let recipe = recipe(self.named.as_ref().unwrap_or(&self.recipe))?;
        let named = paths::dir().join("results/baselines").join(format!("{}.csv", recipe.name));
        let path = self.baseline.clone().unwrap_or(named);
        let baseline = if self.bless { Vec::new() } else { baseline::read(&path)? };
        let current = self.fresh_rows(&recipe)?;
        if self.bless {
            baseline::bless(&path, &current)?;
            output::print(format_args!("wrote {} rows to {}", current.len(), path.display()));
            return Ok(());
        }
        let report = baseline::compare(&baseline, &current);
        if self.json {
            output::print(format_args!("{:#}", json(&report)));
        } else if report.passed {
            output::print(text(&report));
        }
        if report.passed {
            return Ok(());
        }
        Err(Error::Regression(format!(
            "{}\nIf the change is meant, run `just regression --bless` and commit {}",
            text(&report),
            path.display()
        )))
    }

    /// The recipe's runs and timing, always made anew: stored ones would hide what changed.
    fn fresh_rows(&self, recipe: &Recipe) -> Result<Vec<BaselineRow>> {
        let Job { plan, backbone, data, origin, stop, checkpoint_every, log_steps, .. } = self.flags.job(recipe)?;
        preflight(&plan, &backbone, &data)?;
        let scratch = tempfile::Builder::new().prefix("rankbench-regression-").tempdir();
        let scratch = scratch.map_err(|e| Error::output(&std::env::temp_dir(), e))?;
        let dir = scratch.path();
        let damaged = &BTreeSet::new();
        let options = SweepOptions { way: Way::of(StackSize::ONE), checkpoint_every, log_steps, damaged, stop: &stop };
        let swept = sweep(&plan, &backbone, &data, &origin, &RunStore::open(dir), options)?;
        let runs = plan.iter().map(|spec| read::load(&dir.join(spec.id()))).collect::<Result<Vec<_>>>()?;
        for run in &runs {
            if let Status::Failed(reason) = &run.status {
                output::note(format_args!("{} failed: {reason}", run.id));
            }
        }
        // A baseline without the failed run would call its absence right.
        if self.bless && swept.failed > 0 {
            return Err(Error::RunsFailed { failed: swept.failed, total: swept.total });
        }
        let timings = match &recipe.timing {
            Some(timing) => measure(&timed(&plan, timing), timing, &backbone, &data, dir, &stop)?,
            None => Vec::new(),
        };
        Ok(baseline::baseline_rows(&runs, &timings))
    }
}
