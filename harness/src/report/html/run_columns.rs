//! The table of runs, column by column: texts as places in a list of their different values.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::analysis::frame::rows::RunRow;
use crate::analysis::frame::run::RunResult;
use crate::analysis::summary::bare_title;

/// One column of every run.
#[derive(Serialize)]
pub struct RunColumn {
    name: &'static str,
    title: &'static str,
    #[serde(flatten)]
    values: Values,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Values {
    Texts { texts: Vec<String>, at: Vec<usize> },
    Numbers { numbers: Vec<Option<f64>> },
}

/// Columns of the page's table of runs.
pub fn run_columns(runs: &[Arc<RunResult>]) -> Vec<RunColumn> {
    let text = |name, title, of: fn(&RunRow) -> String| {
        let (mut texts, mut at): (Vec<String>, Vec<usize>) = Default::default();
        let mut known: HashMap<String, usize> = HashMap::new();
        for run in runs {
            let value = of(&run.row);
            let place = *known.entry(value).or_insert_with_key(|value| {
                texts.push(value.clone());
                texts.len() - 1
            });
            at.push(place);
        }
        RunColumn { name, title, values: Values::Texts { texts, at } }
    };
    let number = |name, title, of: fn(&RunRow) -> Option<f64>| {
        let numbers = runs.iter().map(|run| of(&run.row).filter(|value| value.is_finite())).collect();
        RunColumn { name, title, values: Values::Numbers { numbers } }
    };
    vec![
        text("run", "Run", |run| run.run.clone()),
        text("task", "Task", |run| run.task.clone()),
        text("method", "Method", |run| run.method.clone()),
        text("title", "Title", bare_title),
        text("variant", "Variant", |run| run.label.clone()),
        number("seed", "Seed", |run| Some(run.seed as f64)),
        text("status", "State", state),
        scores(runs),
        number("epochs", "Epochs", |run| run.epochs.map(|n| n as f64)),
        number("batch_size", "Batch", |run| run.batch_size.map(|n| n as f64)),
        number("lr", "Learning rate", |run| run.lr),
        text("options", "Options", |run| run.options.clone()),
        text("precision", "Precision", |run| run.precision.clone()),
        text("split", "Split", |run| run.split.clone()),
        text("backbone", "Backbone", |run| run.backbone.clone()),
        number("effective", "Effective parameters", |run| run.effective.map(|n| n as f64)),
        number("epoch_seconds", "s/epoch", |run| run.epoch_seconds.map(milli)),
        number("wall_seconds", "Wall s", |run| run.wall_seconds.map(milli)),
        text("device", "Device", |run| run.device.clone()),
        text("commit", "Commit", |run| run.commit.clone()),
        text("origin", "Made", |run| run.origin.clone()),
        text("recipe", "Recipe", |run| run.recipe.clone()),
        text(
            "failure",
            "Reason",
            |run| if run.failure.is_empty() { run.collapse.clone() } else { run.failure.clone() },
        ),
    ]
}

/// `done`, `done, collapsed`, `failed`, …
fn state(run: &RunRow) -> String {
    let collapsed = if run.collapse.is_empty() { "" } else { ", collapsed" };
    format!("{}{collapsed}", run.status)
}

fn milli(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The first reported number of each run on its test split, with its metric.
fn scores(runs: &[Arc<RunResult>]) -> RunColumn {
    let of = |run: &Arc<RunResult>| {
        let task = datasets::tasks::find(&run.row.task).ok();
        let wanted = task.and_then(|task| Some((task.dev_sets().first()?.name, task.reported.first()?.name())));
        let found = match wanted {
            Some((dev_set, metric)) => run.points(dev_set, metric),
            None => run.scores.first().and_then(|score| score.value.map(|value| 100.0 * value)),
        };
        found.map(|points| (points * 1e4).round() / 1e4)
    };
    let values = Values::Numbers { numbers: runs.iter().map(of).collect() };
    RunColumn { name: "score", title: "Test score", values }
}
