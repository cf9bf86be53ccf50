//! `rankbench efficiency`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{RecipeFlags, recipe, width};
use crate::error::{Error, Result};
use crate::sweep::preflight;
use crate::{efficiency, report};

/// `rankbench efficiency`.
#[derive(Debug, Args)]
pub struct Efficiency {
    /// A recipe with a [timing] section: a file, or an embedded one.
    #[arg(long, default_value = "efficiency")]
    recipe: String,
    #[command(flatten)]
    flags: RecipeFlags,
    /// Rounds A B C that count.
    #[arg(long)]
    rounds: Option<usize>,
    /// `timings.csv` goes to OUT, the table to OUT/report.
    #[arg(long, default_value = "results/efficiency", value_name = "OUT")]
    out: PathBuf,
}

impl Efficiency {
    pub(super) fn run(&self) -> Result<()> {
        let recipe = recipe(&self.recipe)?;
        let mut timing = recipe
            .timing
            .clone()
            .ok_or_else(|| Error::Usage(format!("recipe {} has no [timing] section", recipe.name)))?;
        timing.rounds = self.rounds.unwrap_or(timing.rounds).max(1);
        let job = self.flags.job(&recipe)?;
        let seed = job.plan.first().map(|run| run.seed);
        let plan: Vec<_> = job.plan.iter().filter(|run| Some(run.seed) == seed).cloned().collect();
        preflight(&plan, &job.inputs, &job.data)?;
        let timings = efficiency::measure(&plan, &timing, &job.inputs, &job.data, &self.out, &job.stop)?;
        let paths = report::write(&[], &timings, &self.out.join("report"))?;
        println!("{}\nReport: {}", paths.text(&["efficiency"], width()), paths.html.display());
        Ok(())
    }
}
