//! Recipe → runs: every task × seed × method, fully resolved and checked before the first step is trained.

use std::collections::BTreeSet;
use std::rc::Rc;

use datasets::Task;
use datasets::batch::Padding;
use datasets::dataset::Dataset;
use methods::method::MethodEntry;
use methods::options;
use methods::registry;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::plan::grid::{self, GridPoint};
use crate::plan::origin::RecipeRules;
use crate::plan::recipe::{Override, Recipe};
use crate::plan::spec::{BackboneSpec, DataSpec, EvaluateEvery, NUMERICS, RunSpec, TrainSpec};

/// Facts about the machine and the inputs that a plan depends on.
pub struct PlanContext<'a> {
    /// Backbone by name and content.
    pub backbone: BackboneSpec,
    /// Positions of the backbone: no input can be longer.
    pub max_positions: usize,
    /// `cpu` or `cuda`.
    pub device: String,
    /// A task's rows.
    pub dataset: &'a dyn Fn(&'static Task) -> Result<Rc<Dataset>>,
}

/// The tasks of a recipe checked.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn tasks(recipe: &Recipe) -> Result<Vec<&'static Task>> {
    recipe.tasks.iter().map(|name| Ok(datasets::tasks::find(name)?)).collect()
}

/// The methods of a recipe checked.
///
/// # Errors
/// An unknown name, with the nearest known one.
pub fn methods(recipe: &Recipe) -> Result<Vec<&'static MethodEntry>> {
    recipe.methods.iter().map(|name| registry::find(name).map_err(Error::from)).collect()
}

/// Every run of the recipe, task by task, seed by seed, methods and their settings innermost, so that the methods of a pair are run
/// side by side on the machine.
///
/// # Errors
/// An unknown name, option or field, a value out of bounds: named with where it stands.
pub fn plan(recipe: &Recipe, context: &PlanContext) -> Result<Vec<RunSpec>> {
    check_overrides(recipe)?;
    let (mut runs, mut ids): (Vec<RunSpec>, BTreeSet<String>) = Default::default();
    for task in tasks(recipe)? {
        let dataset = (context.dataset)(task)?;
        let data = DataSpec {
            source: dataset.source.into(),
            sha256: dataset.sha256.clone(),
            split: recipe.data.split,
            train_limit: recipe.data.train_limit,
        };
        for &seed in &recipe.seeds {
            for method in methods(recipe)? {
                for point in grid::points(&recipe.grids, task, method) {
                    let run = RunSpec {
                        numerics: NUMERICS,
                        task: task.name.into(),
                        method: method.name.into(),
                        seed,
                        label: point.label.clone(),
                        backbone: context.backbone.clone(),
                        data: data.clone(),
                        train: train(recipe, context, task, method, &point)?,
                        options: options(recipe, task, method, &point)?,
                    };
                    if !ids.insert(run.id()) {
                        let of = [task.name, method.name, &point.label].join(" ");
                        return Err(Error::Usage(format!(
                            "{} seed {seed} is planned twice: each task, method, seed and setting once",
                            of.trim_end()
                        )));
                    }
                    runs.push(run);
                }
            }
        }
    }
    Ok(runs)
}

/// Recipe and rules of a plan's runs: what sets training and options of each method, on whatever task.
///
/// # Errors
/// As [`methods`].
pub fn origin(recipe: &Recipe) -> Result<RecipeRules> {
    let rule = |method: &MethodEntry| {
        let of_method =
            recipe.overrides.iter().filter(|o| o.methods.is_empty() || o.methods.iter().any(|n| n == method.name));
        let overrides: Vec<_> = of_method.map(|o| (&o.tasks, &o.train, &o.options)).collect();
        // The last part was that of flags, before they were folded into the recipe.
        let all = (&recipe.train, overrides, recipe.data.train_limit, [(); 4]);
        let text = match recipe.grids.is_empty() {
            true => serde_json::to_string(&all),
            false => serde_json::to_string(&(all, &recipe.grids)),
        };
        let text = text.map_err(|e| Error::Internal(format!("rule: {e}")))?;
        Ok((method.name.to_string(), hex::encode(Sha256::digest(text))[..10].to_string()))
    };
    let rules = methods(recipe)?.into_iter().map(rule).collect::<Result<_>>()?;
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
    for task in recipe.grids.iter().flat_map(|grid| &grid.tasks) {
        datasets::tasks::find(task).map_err(|e| Error::Usage(format!("recipe {}, grid: {e}", recipe.name)))?;
    }
    grid::check_reach(&recipe.grids, &methods(recipe)?)
        .map_err(|e| Error::Usage(format!("recipe {}, grid: {e}", recipe.name)))
}

fn options(recipe: &Recipe, task: &Task, method: &MethodEntry, point: &GridPoint) -> Result<toml::Table> {
    let mut given = toml::Table::new();
    for exception in applying(recipe, task, method) {
        given.extend(exception.options.clone());
    }
    point.apply("options.", &mut given);
    method.options(&given).map_err(|e| Error::Usage(format!("recipe {}: {e}", recipe.name)))
}

fn train(
    recipe: &Recipe,
    context: &PlanContext,
    task: &Task,
    method: &MethodEntry,
    point: &GridPoint,
) -> Result<TrainSpec> {
    let mut fields = recipe.train.clone();
    for exception in applying(recipe, task, method) {
        fields.extend(exception.train.clone());
    }
    point.apply("train.", &mut fields);
    let place = format!("recipe {}, [train] of {} {}", recipe.name, task.name, method.name);
    if fields.insert("device".into(), context.device.clone().into()).is_some() {
        return Err(Error::Usage(format!("{place}: `device` is a flag (--device), not a field")));
    }
    if !fields.contains_key("max_length") {
        fields.insert("max_length".into(), (task.max_length.min(context.max_positions) as i64).into());
    }
    let train: TrainSpec = serde_path_to_error::deserialize(toml::Value::Table(fields)).map_err(|e| {
        Error::Usage(format!("{place}, at {}: {}", e.path(), options::with_nearest(e.inner().message())))
    })?;
    check(&train, context).map_err(|problem| Error::Usage(format!("{place}: {problem}")))?;
    Ok(train)
}

fn check(train: &TrainSpec, context: &PlanContext) -> std::result::Result<(), String> {
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
        ("stages.count", train.stages.is_none_or(|stages| stages.count >= 2), or_more(2)),
        ("stages.epochs", train.stages.is_none_or(|stages| stages.epochs >= 1), or_more(1)),
    ];
    if let Some((field, _, expected)) = bounds.iter().find(|(_, holds, _)| !holds) {
        return Err(format!("{field} is out of bounds, expected {expected}"));
    }
    if train.max_length > context.max_positions {
        let (length, most) = (train.max_length, context.max_positions);
        return Err(format!("max_length is {length}, but the backbone has only {most} positions"));
    }
    Ok(())
}
