//! `rankbench ablate`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use crate::cli::job::{RecipeFlags, recipe};
use crate::cli::run::{labels, make_runs, verdict};
use crate::cli::stack::StackFlag;
use crate::cli::stored::ReportFlags;
use crate::env::output;
use crate::error::{Error, Result};
use crate::launch::sweep::Way;
use crate::plan::flips::{Flip, NOT_FLIPPED, named};
use crate::plan::spec::RunSpec;

/// `rankbench ablate`.
#[derive(Debug, Args)]
pub struct Ablate {
    /// A recipe file, or the name of an embedded one, in place of --base.
    #[arg(value_name = "RECIPE", conflicts_with = "base")]
    named: Option<String>,
    /// The base: a recipe file, or an embedded recipe.
    #[arg(long, default_value = "ablation", value_name = "RECIPE")]
    base: String,
    /// Switches that are flipped, separated by commas: names, lines of docs/divergences.md, or all.
    #[arg(long, default_value = "all", value_delimiter = ',')]
    flip: Vec<String>,
    #[command(flatten)]
    flags: RecipeFlags,
    /// Runs go to OUT/runs, the report to OUT/report.
    #[arg(long, default_value = "results/ablation", value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    stack: StackFlag,
    #[command(flatten)]
    report: ReportFlags,
}

impl Ablate {
    pub(super) fn run(&self) -> Result<()> {
        let flips = named(&self.flip)?;
        let mut job = self.flags.job(&recipe(self.named.as_ref().unwrap_or(&self.base))?)?;
        if let Some(labelled) = job.plan.iter().find(|run| !run.label.is_empty()) {
            return Err(Error::Usage(format!(
                "the base {} has a grid ({}), expected one setting a method; --set KEY=VALUE chooses one",
                job.recipe.name, labelled.label
            )));
        }
        job.plan = with_flips(&job.plan, &flips)?;
        for (id, why) in NOT_FLIPPED.iter().filter(|_| self.flip.iter().any(|name| name == "all")) {
            output::note(format_args!("not flipped: {id} ({why})"));
        }
        let swept = make_runs(&job, &self.out, true, Way::of(self.stack.stack))?;
        let frame = self.report.frame(&self.out, &labels(&job), true, &job.stop)?;
        self.report.print(&self.report.write(&frame, &self.out, &job.stop)?, &["ablation"])?;
        verdict(swept)
    }
}

/// The base's runs, each followed by itself with every switch flipped that its method has.
fn with_flips(base: &[RunSpec], flips: &[&Flip]) -> Result<Vec<RunSpec>> {
    let (mut plan, mut ids) = (Vec::new(), BTreeSet::new());
    for run in base {
        let flipped = flips.iter().map(|flip| flip.apply(run)).collect::<Result<Vec<_>>>()?;
        for run in std::iter::once(run.clone()).chain(flipped.into_iter().flatten()) {
            if ids.insert(run.id()) {
                plan.push(run);
            }
        }
    }
    Ok(plan)
}
