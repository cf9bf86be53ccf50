//! Recipe → runs: every task × seed × method, fully resolved and checked before the first step is trained.

use std::rc::Rc;

use datasets::Task;
use datasets::batch::Padding;
use datasets::dataset::Dataset;
use methods::method::MethodEntry;
use methods::options;
use methods::registry;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::plan::origin::RecipeRules;
use crate::plan::recipe::{Override, Recipe};
use crate::plan::spec::{BackboneSpec, DataSpec, EvaluateEvery, NUMERICS, Precision, RunSpec, TrainSpec};

/// Flags that override a recipe.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--tasks`.
    pub tasks: Option<Vec<String>>,
    /// `--methods`.
    pub methods: Option<Vec<String>>,
    /// `--seeds`.
    pub seeds: Option<Vec<u64>>,
    /// `--epochs`, over every override of the recipe.
    pub epochs: Option<usize>,
    /// `--batch-size`, over every override of the recipe.
    pub batch_size: Option<usize>,
    /// `--precision`.
    pub precision: Option<Precision>,
    /// `--train-limit`.
    pub train_limit: Option<usize>,
}

/// What the plan needs to know of the machine and the inputs.
pub struct Facts<'a> {
    /// Backbone by name and content.
    pub backbone: BackboneSpec,
    /// Positions of the backbone: no input can be longer.
    pub max_positions: usize,
    /// `cpu` or `cuda`.
    pub device: String,
    /// A task's rows.
    pub dataset: &'a dyn Fn(&'static Task) -> Result<Rc<Dataset>>,
}

/// The tasks of a recipe under the flags, checked.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn tasks(recipe: &Recipe, flags: &Overrides) -> Result<Vec<&'static Task>> {
    let names = flags.tasks.as_ref().unwrap_or(&recipe.tasks);
    names.iter().map(|name| Ok(datasets::tasks::find(name)?)).collect()
}

/// The methods of a recipe under the flags, checked.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn methods(recipe: &Recipe, flags: &Overrides) -> Result<Vec<&'static MethodEntry>> {
    let names = flags.methods.as_ref().unwrap_or(&recipe.methods);
    names.iter().map(|name| registry::find(name).map_err(Error::from)).collect()
}

/// Every run of the recipe, task by task, seed by seed, methods innermost, so that the methods of a pair are run side by
/// side on the machine.
///
/// # Errors
/// An unknown name, option or field, a value out of bounds: named with where it stands.
pub fn plan(recipe: &Recipe, flags: &Overrides, facts: &Facts) -> Result<Vec<RunSpec>> {
    check_overrides(recipe)?;
    let seeds = flags.seeds.as_ref().unwrap_or(&recipe.seeds);
    let mut runs: Vec<RunSpec> = Vec::new();
    for task in tasks(recipe, flags)? {
        let dataset = (facts.dataset)(task)?;
        let data = DataSpec {
            source: dataset.source.into(),
            sha256: dataset.sha256.clone(),
            split: recipe.data.split,
            train_limit: flags.train_limit.or(recipe.data.train_limit),
        };
        for &seed in seeds {
            for method in methods(recipe, flags)? {
                let run = RunSpec {
                    numerics: NUMERICS,
                    task: task.name.into(),
                    method: method.name.into(),
                    seed,
                    backbone: facts.backbone.clone(),
                    data: data.clone(),
                    train: train(recipe, flags, facts, task, method)?,
                    options: options(recipe, task, method)?,
                };
                if runs.contains(&run) {
                    return Err(Error::Usage(format!(
                        "{} {} seed {seed} is planned twice: each task, method and seed once",
                        task.name, method.name
                    )));
                }
                runs.push(run);
            }
        }
    }
    Ok(runs)
}

/// Recipe and rules of a plan's runs: what sets training and options of each method, on whatever task.
///
/// # Errors
/// As [`methods`].
pub fn origin(recipe: &Recipe, flags: &Overrides) -> Result<RecipeRules> {
    let rule = |method: &MethodEntry| {
        let of_method =
            recipe.overrides.iter().filter(|o| o.methods.is_empty() || o.methods.iter().any(|n| n == method.name));
        let overrides: Vec<_> = of_method.map(|o| (&o.tasks, &o.train, &o.options)).collect();
        let flags = (flags.epochs, flags.batch_size, flags.precision.map(Precision::name), flags.train_limit);
        let all = (&recipe.train, overrides, recipe.data.train_limit, flags);
        let text = serde_json::to_string(&all).map_err(|e| Error::Internal(format!("rule: {e}")))?;
        Ok((method.name.to_string(), hex::encode(Sha256::digest(text))[..10].to_string()))
    };
    let rules = methods(recipe, flags)?.into_iter().map(rule).collect::<Result<_>>()?;
    Ok(RecipeRules { recipe: recipe.name.clone(), rules })
}

fn applying<'a>(recipe: &'a Recipe, task: &'a Task, method: &'a MethodEntry) -> impl Iterator<Item = &'a Override> {
    let holds = |names: &[String], name: &str| names.is_empty() || names.iter().any(|n| n == name);
    recipe.overrides.iter().filter(move |o| holds(&o.tasks, task.name) && holds(&o.methods, method.name))
}

/// An override for a name nobody has is a slip, not a silent no-op.
fn check_overrides(recipe: &Recipe) -> Result<()> {
    for (index, exception) in recipe.overrides.iter().enumerate() {
        for task in &exception.tasks {
            datasets::tasks::find(task)
                .map_err(|e| Error::Usage(format!("recipe {}, override {}: {e}", recipe.name, index + 1)))?;
        }
        for method in &exception.methods {
            registry::find(method)
                .map_err(|e| Error::Usage(format!("recipe {}, override {}: {e}", recipe.name, index + 1)))?;
        }
    }
    Ok(())
}

fn options(recipe: &Recipe, task: &Task, method: &MethodEntry) -> Result<toml::Table> {
    let mut given = toml::Table::new();
    for exception in applying(recipe, task, method) {
        given.extend(exception.options.clone());
    }
    method.options(&given).map_err(|e| Error::Usage(format!("recipe {}: {e}", recipe.name)))
}

fn train(recipe: &Recipe, flags: &Overrides, facts: &Facts, task: &Task, method: &MethodEntry) -> Result<TrainSpec> {
    let mut fields = recipe.train.clone();
    for exception in applying(recipe, task, method) {
        fields.extend(exception.train.clone());
    }
    let place = format!("recipe {}, [train] of {} {}", recipe.name, task.name, method.name);
    if fields.insert("device".into(), facts.device.clone().into()).is_some() {
        return Err(Error::Usage(format!("{place}: `device` is a flag (--device), not a field")));
    }
    if !fields.contains_key("max_length") {
        fields.insert("max_length".into(), (task.max_length.min(facts.max_positions) as i64).into());
    }
    let mut train: TrainSpec = serde_path_to_error::deserialize(toml::Value::Table(fields)).map_err(|e| {
        Error::Usage(format!("{place}, at {}: {}", e.path(), options::with_nearest(e.inner().message())))
    })?;
    train.epochs = flags.epochs.unwrap_or(train.epochs);
    train.batch_size = flags.batch_size.unwrap_or(train.batch_size);
    train.precision = flags.precision.unwrap_or(train.precision);
    check(&train, facts).map_err(|problem| Error::Usage(format!("{place}: {problem}")))?;
    Ok(train)
}

fn check(train: &TrainSpec, facts: &Facts) -> std::result::Result<(), String> {
    let or_more = |least: usize| format!("{least} or more");
    let bounds = [
        ("epochs", train.epochs >= 1, or_more(1)),
        ("batch_size", train.batch_size >= 1, or_more(1)),
        ("lr", train.lr.is_finite() && train.lr > 0.0, "a finite number above 0".into()),
        ("warmup_ratio", (0.0..=1.0).contains(&train.warmup_ratio), "0 to 1".into()),
        (
            "weight_decay",
            train.weight_decay.is_finite() && train.weight_decay >= 0.0,
            "a finite number, 0 or more".into(),
        ),
        ("max_grad_norm", train.max_grad_norm > 0.0, "a number above 0 (inf: no clipping)".into()),
        ("max_length", train.max_length >= 4, or_more(4)),
        ("padding.bucket", !matches!(train.padding, Padding::Bucket(0)), or_more(1)),
        ("evaluate.epochs", !matches!(train.evaluate, EvaluateEvery::Epochs(0)), or_more(1)),
        ("evaluate.steps", !matches!(train.evaluate, EvaluateEvery::Steps(0)), or_more(1)),
    ];
    if let Some((field, _, expected)) = bounds.iter().find(|(_, holds, _)| !holds) {
        return Err(format!("{field} is out of bounds, expected {expected}"));
    }
    if train.max_length > facts.max_positions {
        let (length, most) = (train.max_length, facts.max_positions);
        return Err(format!("max_length is {length}, but the backbone has only {most} positions"));
    }
    Ok(())
}

/// Refuses a run whose learning-rate schedule has no step.
///
/// # Errors
/// Fewer rows than a batch over all epochs.
pub fn check_schedule(spec: &RunSpec, rows: usize) -> Result<()> {
    let (_, scheduled) = crate::train::schedule::lengths(&spec.train, rows);
    if scheduled > 0 {
        return Ok(());
    }
    let TrainSpec { epochs, batch_size, .. } = spec.train;
    Err(Error::Usage(format!(
        "{} training rows in batches of {batch_size} over {epochs} epochs: the learning-rate schedule has no step \
         (epochs × rows / batch, rounded down, as released); train longer or with a smaller batch_size",
        rows
    )))
}
