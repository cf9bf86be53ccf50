//! `rankbench plan`.

use std::collections::BTreeMap;

use clap::Args;

use crate::analysis::plan_cost::{PlanRow, PlanTotal, by_setting};
use crate::cli::job::{Job, RecipeFlags, recipe, width};
use crate::env::device;
use crate::env::output;
use crate::error::Result;
use crate::launch::estimate::{Estimate, cost_key, estimate};
use crate::launch::preflight::preflight;
use crate::plan::spec::RunSpec;
use crate::report::plan;
use crate::train::schedule::{evaluations, lengths};

/// `rankbench plan`.
#[derive(Debug, Args)]
pub struct Plan {
    /// A recipe file, or the name of an embedded one, in place of --recipe.
    #[arg(value_name = "RECIPE", conflicts_with = "recipe")]
    named: Option<String>,
    /// A recipe file, or an embedded recipe.
    #[arg(long, default_value = "table1")]
    recipe: String,
    #[command(flatten)]
    flags: RecipeFlags,
    /// Count runs, steps and evaluations, and time nothing.
    #[arg(long)]
    no_measure: bool,
    /// As JSON, with the sums.
    #[arg(long)]
    json: bool,
    /// As CSV.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

impl Plan {
    pub(super) fn run(&self) -> Result<()> {
        let job = self.flags.job(&recipe(self.named.as_ref().unwrap_or(&self.recipe))?)?;
        preflight(&job.plan, &job.backbone, &job.data)?;
        let rows = rows(&job, !self.no_measure)?;
        let device = device::name(job.backbone.device);
        let text = match (self.json, self.csv) {
            (true, _) => plan::json(&job.recipe.name, &device, &rows)?,
            (_, true) => plan::csv(&rows)?,
            _ => plan::text(&job.recipe.name, &device, &rows, width())?,
        };
        output::print(text.trim_end());
        Ok(())
    }
}

/// Runs, steps and evaluations of a job in words.
///
/// # Errors
/// Rows that cannot be read.
pub(super) fn counts(job: &Job) -> Result<String> {
    Ok(plan::counts(&PlanTotal::of(&rows(job, false)?)))
}

/// The runs of a job by setting; with `measured`, steps of each kind of run are timed once.
fn rows(job: &Job, measured: bool) -> Result<Vec<PlanRow>> {
    let mut known = Estimates::default();
    let settings = by_setting(&job.plan);
    let mut rows = Vec::new();
    for (spec, runs) in settings {
        let task = job.data.of_run(spec, &job.backbone.tokenizer)?;
        let found = match measured {
            true => Some(known.of(spec, job)?),
            false => None,
        };
        let (steps, _) = lengths(&spec.train, task.train.len());
        let evaluations = evaluations(&spec.train, task.train.len());
        let run_seconds = found.map(|found| found.seconds(steps, evaluations));
        rows.push(PlanRow {
            task: spec.task.clone(),
            method: spec.method.clone(),
            label: spec.label.clone(),
            runs: runs as u64,
            steps: steps as u64,
            evaluations: evaluations as u64,
            step_seconds: found.map(|found| found.step_seconds),
            run_seconds,
            seconds: run_seconds.map(|seconds| seconds * runs as f64),
            peak_mib: found.and_then(|found| found.peak_mib),
        });
    }
    Ok(rows)
}

/// Costs of runs measured so far, by kind of run.
#[derive(Default)]
pub(super) struct Estimates(BTreeMap<String, Estimate>);

impl Estimates {
    /// The cost of a run: steps of each kind of run are timed once.
    ///
    /// # Errors
    /// As [`estimate`].
    pub fn of(&mut self, spec: &RunSpec, job: &Job) -> Result<Estimate> {
        let key = cost_key(spec);
        if let Some(found) = self.0.get(&key) {
            return Ok(*found);
        }
        output::note(format_args!("timing {} {} {}", spec.task, spec.method, spec.label));
        let task = job.data.of_run(spec, &job.backbone.tokenizer)?;
        let found = estimate(spec, &job.backbone, &task)?;
        self.0.insert(key, found);
        Ok(found)
    }
}
