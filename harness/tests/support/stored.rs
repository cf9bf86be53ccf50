//! Run directories whose rows are made up but whose sums and metrics are honest, as many as wanted.

use std::path::Path;

use datasets::Task;
use datasets::tasks::TASKS;
use harness::analysis::stats::SplitMix;
use harness::store::record::{RunRecord, Status};
use harness::store::rows::{EpochRow, EvalRow, GateRow, Outcome, PredictionRow, RankRow, StepRow};
use harness::store::sums;
use serde::Serialize;

use super::runs::{Setting, made_up, scored};

/// Size of a stored run.
#[derive(Clone, Copy)]
pub struct Size {
    /// Epochs, each with one evaluation.
    pub epochs: usize,
    /// Rows of `steps.csv`.
    pub steps: usize,
    /// Layers with six target modules each.
    pub layers: usize,
    /// Test rows of one development set; none: as many as the task has.
    pub rows: Option<usize>,
}

/// A run of a few steps.
pub const SMALL: Size = Size { epochs: 3, steps: 60, layers: 2, rows: Some(64) };
/// A run as long as a real one.
pub const REAL: Size = Size { epochs: 50, steps: 300, layers: 12, rows: None };

const METHODS: [&str; 3] = ["lora", "adalora", "sora"];
const KINDS: [&str; 6] = ["query", "key", "value", "attention_output", "intermediate", "output"];

/// Writes about `count` finished runs below `runs`: every task, three methods, and seeds enough.
pub fn write_runs(runs: &Path, count: usize, size: Size) -> usize {
    let seeds = count.div_ceil(TASKS.len() * METHODS.len()).max(1);
    for task in TASKS {
        let labels = labels(task, size);
        for method in METHODS {
            (0..seeds).for_each(|seed| write_run(runs, task, method, seed as u64, size, &labels));
        }
    }
    seeds * TASKS.len() * METHODS.len()
}

fn rows_of(task: &Task, size: Size) -> usize {
    let real =
        [("cola", 522), ("sst2", 436), ("mrpc", 204), ("qqp", 20_215), ("stsb", 750), ("mnli", 9_815), ("qnli", 2_732)];
    let known = real.iter().find(|(name, _)| *name == task.name).map_or(139, |(_, rows)| *rows);
    size.rows.unwrap_or(known)
}

fn labels(task: &Task, size: Size) -> Vec<f64> {
    let mut random = SplitMix::new(3);
    (0..rows_of(task, size)).map(|_| label(task, &mut random)).collect()
}

fn label(task: &Task, random: &mut SplitMix) -> f64 {
    match task.name {
        "stsb" => random.below(51) as f64 / 10.0,
        "mnli" => random.below(3) as f64,
        _ => random.below(2) as f64,
    }
}

fn write_run(runs: &Path, task: &Task, method: &str, seed: u64, size: Size, labels: &[f64]) {
    let started = 1 + METHODS.iter().position(|known| *known == method).unwrap_or_default() as u64;
    let mut run = made_up(&Setting { started, ..Setting::default() }, task.name, method, seed, Status::Unfinished);
    let mut random = SplitMix::new(seed * 31 + started);
    let predictions: Vec<f64> =
        labels.iter().map(|own| if random.below(100) < 85 { *own } else { label(task, &mut random) }).collect();
    let mut values = Vec::new();
    for set in task.dev_sets() {
        for metric in task.metrics {
            values.push((set.name, metric.name(), metric.compute(labels, &predictions).unwrap()));
        }
    }
    let Status::Done(mut outcome) = scored(&values, 215_552 + seed as i64, &[]) else { unreachable!() };
    for result in &mut outcome.results {
        result.test_examples = labels.len();
        result.selected_step = Some(size.epochs);
        result.selection_metric = task.selection.name().into();
        let selected = result.test.iter().find(|(name, _)| *name == result.selection_metric).unwrap();
        result.selection_value = Some(selected.1);
    }
    run.status = Status::Done(outcome);
    write(runs, &run, task, size, labels, &predictions);
}

fn write(runs: &Path, run: &RunRecord, task: &Task, size: Size, labels: &[f64], predictions: &[f64]) {
    let dir = runs.join(&run.id);
    std::fs::create_dir_all(dir.join("adapter")).unwrap();
    let file = |name: &str, text: String| std::fs::write(dir.join(name), text).unwrap();
    let Status::Done(outcome) = &run.status else { unreachable!() };
    file("run.toml", toml::to_string_pretty(&run.spec).unwrap());
    file("manifest.json", serde_json::to_string_pretty(&run.manifest).unwrap());
    file("epochs.csv", csv((1..=size.epochs).map(epoch)));
    file("evals.csv", csv((1..=size.epochs).flat_map(|step| evals(task, step, outcome))));
    file("ranks.csv", csv((1..=size.epochs).flat_map(|step| ranks(size.layers, step))));
    let has_gates = run.spec.method() != "lora";
    file("steps.csv", csv((1..=size.steps).map(|step| logged(step, has_gates))));
    if has_gates {
        file("gates.csv", csv(gates(size.layers, size.steps)));
    }
    file("predictions.csv", csv(rows(task, labels, predictions)));
    file("outcome.json", serde_json::to_string_pretty(outcome).unwrap());
    file("adapter/adapter_config.json", "{}\n".into());
    file("DONE", sums::sums(&dir).unwrap());
}

fn csv<R: Serialize>(rows: impl Iterator<Item = R>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    rows.for_each(|row| writer.serialize(row).unwrap());
    String::from_utf8(writer.into_inner().unwrap()).unwrap()
}

fn epoch(epoch: usize) -> EpochRow {
    EpochRow {
        epoch,
        steps: 1,
        seconds: 1.5,
        task_loss: 1.0 / epoch as f64,
        penalty: 0.0,
        tokens: 1000,
        padded_tokens: 1200,
        recordings: 0,
        recording_seconds: 0.0,
        peak_allocated_mib: None,
        peak_reserved_mib: None,
        peak_resident_mib: Some(300.0),
    }
}

fn evals(task: &Task, step: usize, outcome: &Outcome) -> Vec<EvalRow> {
    let row = |split: &str, dev_set: &str, metric: &str, value: f64| EvalRow {
        step,
        epoch: step as f64,
        split: split.into(),
        dev_set: dev_set.into(),
        metric: metric.into(),
        value,
        effective_parameters: 215_552,
    };
    let splits = ["validation", "test"].into_iter();
    splits
        .flat_map(|split| task.dev_sets().iter().zip(&outcome.results).map(move |(set, result)| (split, set, result)))
        .flat_map(|(split, set, result)| {
            let metrics = result.test.iter().map(move |(name, value)| row(split, set.name, name, *value));
            metrics.chain([row(split, set.name, "loss", 0.5)]).collect::<Vec<_>>()
        })
        .collect()
}

fn ranks(layers: usize, step: usize) -> impl Iterator<Item = RankRow> {
    let row = move |(layer, kind): (usize, &str)| RankRow {
        step,
        module: format!("deberta.encoder.layer.{layer}.attention.self.{kind}_proj"),
        layer,
        kind: kind.into(),
        rank: 8 - (step % 4) as i64,
        max_rank: 8,
        mean_abs_gate: Some(0.25),
    };
    (0..layers).flat_map(|layer| KINDS.map(|kind| (layer, kind))).map(row)
}

fn logged(step: usize, has_gates: bool) -> StepRow {
    StepRow {
        step,
        epoch: 1,
        task_loss: 1.0 / step as f32,
        penalty: 0.0,
        lr: 1e-3,
        grad_norm: 0.5,
        nonzero_components: has_gates.then_some(1_000 - step as i64),
    }
}

fn gates(layers: usize, step: usize) -> impl Iterator<Item = GateRow> {
    let component = move |rank: RankRow| {
        (0..8).map(move |component| GateRow {
            step,
            module: rank.module.clone(),
            layer: rank.layer,
            kind: rank.kind.clone(),
            component,
            value: 0.125 * component as f32,
        })
    };
    ranks(layers, step).flat_map(component)
}

fn rows(task: &Task, labels: &[f64], predictions: &[f64]) -> impl Iterator<Item = PredictionRow> {
    let of_set = |split: &'static str, dev_set: &'static str| {
        let row = move |(row, (label, prediction)): (usize, (&f64, &f64))| PredictionRow {
            split: split.into(),
            dev_set: dev_set.into(),
            row,
            label: *label,
            prediction: *prediction,
        };
        labels.iter().zip(predictions).enumerate().map(row)
    };
    let sets = task.dev_sets().iter().flat_map(|set| ["validation", "test"].map(|split| (split, set.name)));
    sets.flat_map(move |(split, set)| of_set(split, set)).collect::<Vec<_>>().into_iter()
}
