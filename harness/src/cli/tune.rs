//! `rankbench tune`.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use clap::Args;
use datasets::permutation::torch_randperm;

use crate::analysis::tuning::searches;
use crate::cli::job::{Job, RecipeFlags, recipe};
use crate::cli::run::{labels, make_runs, verdict};
use crate::cli::stack::StackFlag;
use crate::cli::stored::ReportFlags;
use crate::env::output;
use crate::error::{Error, Result};
use crate::launch::sweep::{SweepSummary, Way};
use crate::plan::spec::RunSpec;

/// Seed of the draw of trials from a larger space.
const DRAW_SEED: u64 = 0;

/// `rankbench tune`.
#[derive(Debug, Args)]
pub struct Tune {
    /// A recipe file, or the name of an embedded one, in place of --recipe.
    #[arg(value_name = "RECIPE", conflicts_with = "recipe")]
    named: Option<String>,
    /// A recipe whose grid is the space: a file, or an embedded recipe.
    #[arg(long, default_value = "tune")]
    recipe: String,
    #[command(flatten)]
    flags: RecipeFlags,
    /// Trials of every method on every task: so many settings, drawn from its space. Left out: the whole space, which then must be of
    /// one size for all.
    #[arg(long, value_name = "N")]
    trials: Option<NonZeroUsize>,
    /// Seeds of each trial, the first ones of the recipe; the chosen settings are made on all.
    #[arg(long, default_value = "1", value_name = "N")]
    trial_seeds: NonZeroUsize,
    /// Runs go to OUT/runs, the report to OUT/report.
    #[arg(long, default_value = "results/tune", value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    stack: StackFlag,
    #[command(flatten)]
    report: ReportFlags,
}

/// Labels of the trials by task and method.
type Spaces = BTreeMap<(String, String), Vec<String>>;

impl Tune {
    pub(super) fn run(&self) -> Result<()> {
        let mut job = self.flags.job(&recipe(self.named.as_ref().unwrap_or(&self.recipe))?)?;
        let all = std::mem::take(&mut job.plan);
        let spaces = self.trials_of(&all)?;
        let seeds: BTreeSet<u64> = job.recipe.seeds.iter().copied().take(self.trial_seeds.get()).collect();
        let is_trial = |run: &RunSpec| {
            spaces.get(&(run.task.clone(), run.method.clone())).is_some_and(|labels| labels.contains(&run.label))
        };
        job.plan = all.iter().filter(|run| seeds.contains(&run.seed) && is_trial(run)).cloned().collect();
        let trials = make_runs(&job, &self.out, true, Way::of(self.stack.stack))?;
        if job.stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        // One whose result is not known may be the best.
        let chosen = if trials.damaged == 0 {
            self.chosen(&job)?
        } else {
            output::note("nothing is chosen, and no further seed made, while trials are damaged");
            BTreeMap::new()
        };
        let is_chosen = |run: &RunSpec| chosen.get(&(run.task.clone(), run.method.clone())) == Some(&run.label);
        let more: Vec<RunSpec> =
            all.iter().filter(|run| !seeds.contains(&run.seed) && is_chosen(run)).cloned().collect();
        let tried = std::mem::replace(&mut job.plan, more);
        let finals = make_runs(&job, &self.out, true, Way::of(self.stack.stack))?;
        job.plan = [tried, job.plan].concat();
        let frame = self.report.frame(&self.out, &labels(&job), true, &job.stop)?;
        self.report.print(&self.report.write(&frame, &self.out, &job.stop)?, &["claims", "tuning"])?;
        verdict(SweepSummary {
            total: trials.total + finals.total,
            failed: trials.failed + finals.failed,
            held: trials.held + finals.held,
            damaged: trials.damaged + finals.damaged,
        })
    }

    /// The trials of every method and task, the same number each.
    fn trials_of(&self, plan: &[RunSpec]) -> Result<Spaces> {
        let mut spaces = Spaces::new();
        for run in plan {
            let labels = spaces.entry((run.task.clone(), run.method.clone())).or_default();
            if !labels.contains(&run.label) {
                labels.push(run.label.clone());
            }
        }
        let has_rate = |label: &String| label.split_whitespace().any(|part| part.starts_with("lr="));
        if let Some((place, _)) = spaces.iter().find(|(_, labels)| labels.len() < 2 || !labels.iter().all(has_rate)) {
            return Err(Error::Usage(format!(
                "{} {} has no space to search: expected a grid with two learning rates or more, e.g. --set train.lr=1e-4,3e-4",
                place.0, place.1
            )));
        }
        let least = spaces.values().map(Vec::len).min().unwrap_or(0);
        let wanted = self.trials.map_or(least, NonZeroUsize::get);
        if let Some(((task, method), labels)) =
            spaces.iter().find(|(_, labels)| labels.len() < wanted || (self.trials.is_none() && labels.len() != wanted))
        {
            return Err(Error::Usage(format!(
                "{method} on {task} has {} settings and another method {wanted}: expected the same number of trials for every \
                 method; --trials N draws N of each space",
                labels.len()
            )));
        }
        for labels in spaces.values_mut().filter(|labels| labels.len() > wanted) {
            let mut kept: Vec<usize> = torch_randperm(labels.len(), DRAW_SEED).into_iter().take(wanted).collect();
            kept.sort_unstable();
            *labels = kept.into_iter().map(|index| labels[index].clone()).collect();
        }
        Ok(spaces)
    }

    /// Label that validation chooses, by task and method.
    fn chosen(&self, job: &Job) -> Result<BTreeMap<(String, String), String>> {
        let frame = self.report.scores(&self.out, &labels(job), true, &job.stop)?;
        let searches = frame.groups.iter().flat_map(searches);
        let chosen = searches
            .filter_map(|search| Some(((search.task.into(), search.method.into()), search.best()?.label.to_string())));
        Ok(chosen.collect())
    }
}
