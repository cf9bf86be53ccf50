//! `rankbench run --dry-run`: what a command would do, from what is known without doing it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use datasets::Task;
use datasets::backbones;
use datasets::dataset::Dataset;
use datasets::hub::is_repository;
use datasets::micro;
use datasets::sources::load;
use datasets::split;
use datasets::tokenizer::Behaviour;

use crate::analysis::plan_cost::PlannedRun;
use crate::cli::job::{Job, RecipeFlags, width};
use crate::cli::plan::Estimates;
use crate::cli::run::{DryRun, Run};
use crate::env::{device, output};
use crate::error::{Error, Result};
use crate::launch::preflight::{check_without_weights, preflight};
use crate::load::download;
use crate::load::paths;
use crate::load::task_data::RowSource;
use crate::plan::recipe::Recipe;
use crate::plan::resolve::{self, PlanContext};
use crate::plan::spec::{BackboneSpec, RunSpec};
use crate::report::plan;
use crate::store::survey::{RunState, survey};
use crate::train::schedule::{evaluations, lengths};

/// The runs of a command, and how many rows each task trains on.
struct Outlook {
    recipe: String,
    plan: Vec<RunSpec>,
    train_rows: BTreeMap<String, usize>,
    /// Backbone and rows, where both are on this machine.
    job: Option<Job>,
}

/// Prints what `rankbench run` would do with these flags, after the checks that it makes.
///
/// # Errors
/// As a run before its first step. A backbone or data that `run` would fetch are no error.
pub fn dry_run(command: &Run, form: DryRun) -> Result<()> {
    if form == DryRun::Toml && command.is_json() {
        return Err(Error::Usage("--dry-run=toml prints TOML: leave one of it and --json out".into()));
    }
    command.flags.data.own.read()?;
    let recipe = command.flags.changed(&command.recipe()?)?;
    let outlook = match command.measure || is_at_hand(&command.flags, &recipe)? {
        true => Outlook::of_job(command.flags.job_of(&recipe)?)?,
        false => Outlook::without_weights(&command.flags, &recipe)?,
    };
    if form == DryRun::Toml {
        for spec in &outlook.plan {
            let text = toml::to_string(spec).map_err(|e| Error::Internal(format!("run.toml: {e}")))?;
            // An id holds the sums of backbone and rows.
            let id = outlook.job.as_ref().map_or("id not known: backbone or data are not here".into(), |_| spec.id());
            output::print(format_args!("# {id}\n{text}"));
        }
        return Ok(());
    }
    let rows = outlook.rows(command)?;
    let notes = outlook.notes(command.measure);
    output::print(match command.is_json() {
        true => plan::runs_json(&outlook.recipe, &rows)?,
        false => plan::runs_text(&outlook.recipe, &rows, notes, width())?.trim_end().to_string(),
    });
    Ok(())
}

/// Whether backbone and rows are on this machine, so that a run would fetch nothing.
///
/// # Errors
/// A backbone that is neither here nor a repository.
fn is_at_hand(flags: &RecipeFlags, recipe: &Recipe) -> Result<bool> {
    let name = flags.backbone.as_deref().unwrap_or(&recipe.backbone);
    let cached = download::cached();
    if let Err(error) = paths::backbone(name, &cached) {
        return if is_repository(name) { Ok(false) } else { Err(error) };
    }
    Ok(flags.data.origin(recipe.data.source, &resolve::tasks(recipe)?, &cached).is_ok())
}

impl Outlook {
    /// Of a run that could start now, after all of its checks.
    fn of_job(job: Job) -> Result<Self> {
        preflight(&job.plan, &job.backbone, &job.data)?;
        let mut train_rows = BTreeMap::new();
        for spec in &job.plan {
            let rows = job.data.of_run(spec, &job.backbone.tokenizer)?.train.len();
            train_rows.insert(spec.task.clone(), rows);
        }
        Ok(Outlook { recipe: job.recipe.name.clone(), plan: job.plan.clone(), train_rows, job: Some(job) })
    }

    /// From names and numbers of rows alone; rows that are here are read.
    fn without_weights(flags: &RecipeFlags, recipe: &Recipe) -> Result<Self> {
        resolve::methods(recipe)?;
        let tasks = resolve::tasks(recipe)?;
        let origin = flags.data.origin(recipe.data.source, &tasks, &download::cached()).ok();
        let (train_rows, allows_unlocked) = (RefCell::new(BTreeMap::new()), flags.data.allow_unlocked);
        let dataset = |task: &'static Task| {
            let (dataset, rows) = rows(task, origin.as_ref(), allows_unlocked)?;
            let kept = split::train_rows(task.split_rule, recipe.data.split, rows);
            let kept = kept.min(recipe.data.train_limit.unwrap_or(usize::MAX));
            train_rows.borrow_mut().insert(task.name.to_string(), kept);
            Ok(dataset)
        };
        let context = PlanContext {
            backbone: planned_backbone(flags, recipe),
            max_positions: usize::MAX,
            device: device::kind(flags.machine.device.device()?).into(),
            dataset: &dataset,
        };
        let plan = resolve::plan(recipe, &context)?;
        let train_rows = train_rows.take();
        check_without_weights(&plan, |spec| train_rows.get(&spec.task).copied().unwrap_or_default())?;
        Ok(Outlook { recipe: recipe.name.clone(), plan, train_rows, job: None })
    }

    /// A row for each run.
    fn rows(&self, command: &Run) -> Result<Vec<PlannedRun>> {
        let states = self.states(command)?;
        let (mut known, mut disk) = (Estimates::default(), BTreeMap::new());
        let row = |spec: &RunSpec| {
            let setting = spec.setting();
            if !disk.contains_key(&setting) {
                disk.insert(setting.clone(), self.job.as_ref().map(|job| job.disk_mib(spec)).transpose()?);
            }
            let train = self.train_rows.get(&spec.task).copied().unwrap_or_default();
            let (steps, _) = lengths(&spec.train, train);
            let evaluations = evaluations(&spec.train, train);
            let state = match states.get(&self.key(spec)).map_or("left", word) {
                // `--force` makes them again.
                "done" if command.force => "left",
                state => state,
            };
            let measured = match &self.job {
                Some(job) if command.measure && state != "done" => Some(known.of(spec, job)?),
                _ => None,
            };
            Ok::<_, Error>(PlannedRun {
                run: if self.job.is_some() { spec.id() } else { String::new() },
                task: spec.task.clone(),
                method: spec.method.clone(),
                label: spec.label.clone(),
                seed: spec.seed,
                state: state.into(),
                steps: steps as u64,
                evaluations: evaluations as u64,
                seconds: measured.map(|found| found.seconds(steps, evaluations)),
                disk_mib: disk.get(&setting).copied().flatten(),
            })
        };
        self.plan.iter().map(row).collect()
    }

    /// States of the stored runs by [`Outlook::key`].
    fn states(&self, command: &Run) -> Result<BTreeMap<String, RunState>> {
        let runs = command.out.join("runs");
        let stored = if runs.is_dir() { survey(&runs)? } else { Vec::new() };
        Ok(stored.into_iter().filter_map(|run| Some((self.key(run.spec.as_ref()?), run.state))).collect())
    }

    /// The run's id; where backbone or rows are not here, that of the run without what only they say, beside the backbone's name.
    fn key(&self, spec: &RunSpec) -> String {
        if self.job.is_some() {
            return spec.id();
        }
        let mut spec = spec.clone();
        (spec.backbone.sha256, spec.backbone.weights_sha256, spec.data.sha256) = Default::default();
        spec.backbone.tokenizer = Behaviour::default();
        format!("{} {}", spec.backbone.name, spec.id())
    }

    /// Lines below the table: what was not looked at, and how to have it.
    fn notes(&self, measured: bool) -> Vec<String> {
        let mut notes = Vec::new();
        if self.job.is_none() {
            notes.push(
                "Backbone or data are not on this machine and will be fetched: numbers of rows are the published ones, and ranks \
                 and lengths were not held against the backbone. `rankbench fetch RECIPE` gets both."
                    .into(),
            );
        }
        if !measured {
            notes.push("--measure times a few steps of every kind of run here, and adds the hours.".into());
        }
        notes
    }
}

/// A task's rows and the number of those of its training set; the number alone where they are not here.
///
/// # Errors
/// Files that are missing, damaged or not those of the lock; a task of which nothing is known.
fn rows(task: &'static Task, origin: Option<&RowSource>, allows_unlocked: bool) -> Result<(Rc<Dataset>, usize)> {
    let own = RowSource::Micro;
    let Some(origin) = (if task.file.is_some() { Some(&own) } else { origin }) else {
        let rows = task.train().rows.ok_or_else(|| {
            Error::Input(format!("the data of {} are not here, and their number of rows is not published", task.title))
        })?;
        let (train, dev, files) = Default::default();
        return Ok((Rc::new(Dataset { task, train, dev, files, sha256: String::new(), source: "glue" }), rows));
    };
    let dataset = match origin.dir(task)? {
        Some(dir) => load::load(task, dir, allows_unlocked)?,
        None => micro::dataset(task)?,
    };
    let rows = dataset.train.len();
    Ok((Rc::new(dataset), rows))
}

/// The backbone by its name alone.
fn planned_backbone(flags: &RecipeFlags, recipe: &Recipe) -> BackboneSpec {
    let repository = flags.backbone.as_deref().unwrap_or(&recipe.backbone).split('@').next().unwrap_or_default();
    let short = || repository.rsplit('/').next().unwrap_or(repository).to_string();
    let name = backbones::of_repository(repository).map_or_else(short, |known| known.name.clone());
    let tokenizer = flags.tokenizer.unwrap_or(recipe.tokenizer);
    BackboneSpec { name, weights_sha256: String::new(), sha256: String::new(), tokenizer }
}

/// State of a run in a word.
fn word(state: &RunState) -> &'static str {
    match state {
        RunState::Done(_) => "done",
        RunState::Running(_) => "running",
        RunState::Interrupted => "begun",
        RunState::Failed => "failed, made again",
        RunState::CutOff | RunState::NotStarted | RunState::Unreadable => "left",
    }
}
