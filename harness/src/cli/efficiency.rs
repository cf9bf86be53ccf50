//! `rankbench efficiency`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::cli::job::{RecipeFlags, recipe};
use crate::cli::stored::ReportFlags;
use crate::error::{Error, Result};
use crate::launch::preflight::preflight;
use crate::launch::timing;

/// `rankbench efficiency`.
#[derive(Debug, Args)]
pub struct Efficiency {
    /// A recipe file, or the name of an embedded one, in place of --recipe.
    #[arg(value_name = "RECIPE", conflicts_with = "recipe")]
    named: Option<String>,
    /// A recipe with a [timing] section: a file, or an embedded one.
    #[arg(long, default_value = "efficiency")]
    recipe: String,
    /// Rounds A B C.
    #[arg(long)]
    rounds: Option<NonZeroUsize>,
    /// `timings.csv` goes to OUT, the table to OUT/report.
    #[arg(long, default_value = "results/efficiency", value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    flags: RecipeFlags,
    #[command(flatten)]
    report: ReportFlags,
}

impl Efficiency {
    pub(super) fn run(&self) -> Result<()> {
        let recipe = recipe(self.named.as_ref().unwrap_or(&self.recipe))?;
        let mut timing = recipe
            .timing
            .clone()
            .ok_or_else(|| Error::Usage(format!("recipe {} has no [timing] section", recipe.name)))?;
        timing.rounds = self.rounds.map_or(timing.rounds, NonZeroUsize::get);
        let job = self.flags.job(&recipe)?;
        refuse_plain(job.plain_because.as_deref())?;
        let seed = job.plan.first().map(|run| run.seed);
        let plan: Vec<_> = job.plan.iter().filter(|run| Some(run.seed) == seed).cloned().collect();
        preflight(&plan, &job.backbone, &job.data)?;
        timing::measure(&plan, &timing, &job.backbone, &job.data, &self.out, &job.stop)?;
        let frame = self.report.frame(&self.out, &[], false, &job.stop)?;
        let paths = self.report.write(&frame, &self.out, &job.stop)?;
        self.report.print(&paths, &["efficiency"])
    }
}

/// Refuses to time steps without the kernels that were asked for: their times would stand under the name of those with them.
fn refuse_plain(reason: Option<&str>) -> Result<()> {
    reason.map_or(Ok(()), |reason| {
        Err(Error::Environment(format!(
            "{reason}\nnothing was timed, since times without our kernels are not theirs: `rankbench doctor` says what is missing; --kernels plain times libtorch's operations"
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_without_the_kernels_that_were_asked_for_are_not_timed() {
        assert!(refuse_plain(None).is_ok());
        let error = refuse_plain(Some("the run-time compiler is not there")).unwrap_err().to_string();
        assert!(
            error.starts_with("the run-time compiler is not there\n") && error.contains("--kernels plain"),
            "{error}"
        );
    }
}
