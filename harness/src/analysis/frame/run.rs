//! Rows of one run: everything that tables and figures read of it.

use std::borrow::Cow;

use datasets::metrics::Metric;
use datasets::tokenizer::Behaviour;

use crate::analysis::frame::group::ReportGroup;
use crate::analysis::frame::label::{EXTERNAL, Settings, options};
use crate::analysis::frame::predictions::{TestPredictions, TestSets, reported};
use crate::analysis::frame::rows::{HERE, RunRow, ScoreRow};
use crate::analysis::stats::median;
use crate::plan::external::ExternalSpec;
use crate::plan::spec::{Precision, RunSpec};
use crate::store::record::{Manifest, RunRecord, SetPredictions, Status};
use crate::store::rows::{DevSetResult, EpochRow, EvalRow, Outcome, RankRow, Seconds, StageRow};
use crate::store::stored_spec::StoredSpec;

/// One target module of a run at its selected checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct RankPoint {
    /// Layer, from 0.
    pub layer: u32,
    /// Kind of the module.
    pub kind: Cow<'static, str>,
    /// Non-zero components.
    pub rank: i32,
    /// Components at the start.
    pub max_rank: i32,
}

/// Kinds of modules in the order of a layer.
pub const KINDS: [&str; 7] = ["query", "key", "value", "qkv", "attention_output", "intermediate", "output"];

/// Everything that tables and figures read of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunResult {
    /// Setting, status, counts and times.
    pub row: RunRow,
    /// One row a development set and metric; none without a result.
    pub scores: Vec<ScoreRow>,
    /// Task loss by epoch.
    pub losses: Vec<(f64, f64)>,
    /// Selection metric on the validation split of the first development set, by epoch.
    pub selection: Vec<(f64, f64)>,
    /// Ranks at the selected checkpoint of a finished run.
    pub ranks: Vec<RankPoint>,
    /// Step from which the rank budget is final, where the checkpoint was chosen before it.
    pub budget_after: Option<u64>,
    /// Ends of the stages of a finished run, on its first development set; none without a schedule.
    pub stages: Vec<StageRow>,
    /// Predictions on the test split of the first development set, of a finished run.
    pub predictions: Option<TestPredictions>,
    /// Its settings in full, where it is a stored run; a report has a part of them, which is in `row`.
    pub stored: Option<StoredSetting>,
}

/// Settings and program of a stored run.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredSetting {
    /// Everything in its specification but task, method, seed, numeric version and group.
    pub settings: Settings,
    /// Version of the program that made it, and what it was built with.
    pub program: Settings,
}

impl RunResult {
    /// Reads what is needed out of a stored run; test splits are shared through `known`.
    pub fn of(run: &RunRecord, known: &TestSets) -> Self {
        let mut result = RunResult {
            row: row(run),
            scores: Vec::new(),
            losses: run.epochs.iter().map(|epoch| (epoch.epoch as f64, epoch.task_loss)).collect(),
            selection: Vec::new(),
            ranks: Vec::new(),
            budget_after: None,
            stages: Vec::new(),
            predictions: None,
            stored: None,
        };
        let task = datasets::tasks::find(run.spec.task()).ok();
        let first_set = task.and_then(|task| task.dev_sets().first()).map_or("dev", |set| set.name);
        if let Status::Done(outcome) = &run.status {
            result.scores = scores(outcome, &run.predictions, task.map_or(&[], |task| task.metrics));
            result.budget_after = run.spec.made().and_then(|spec| budget_after(spec, outcome));
            result.ranks = selected_ranks(&run.ranks, result.scores.first().and_then(|score| score.selected_step));
            result.stages = run.stages.iter().filter(|stage| stage.dev_set == first_set).cloned().collect();
            result.predictions = TestPredictions::of(&run.predictions, first_set, known);
        }
        let chosen = task.map(|task| task.selection.name());
        let metric = chosen.or_else(|| result.scores.first().map(|score| score.selection_metric.as_str()));
        result.selection = selection(&run.evals, first_set, metric.unwrap_or_default());
        result
    }

    /// Group of the run.
    pub fn group(&self) -> ReportGroup {
        ReportGroup {
            data_source: self.row.data_source.clone(),
            backbone: self.row.backbone.clone(),
            weights_sha256: self.row.weights_sha256.clone(),
            split: self.row.split.clone(),
        }
    }

    /// Whether the run is finished and whole.
    pub fn is_done(&self) -> bool {
        self.row.status == "done"
    }

    /// Whether it was made elsewhere.
    pub fn is_external(&self) -> bool {
        self.row.origin == EXTERNAL
    }

    /// Whether its predictions or losses collapsed.
    pub fn is_collapsed(&self) -> bool {
        !self.row.collapse.is_empty()
    }

    /// A metric in points of 100.
    pub fn points(&self, dev_set: &str, metric: &str) -> Option<f64> {
        let score = self.scores.iter().find(|score| score.dev_set == dev_set && score.metric == metric)?;
        Some(100.0 * score.value?)
    }
}

fn row(run: &RunRecord) -> RunRow {
    let spec = &run.spec;
    let group = ReportGroup::of_spec(spec);
    let seconds: Vec<f64> = run.epochs.iter().map(|e| e.seconds).collect();
    let total: f64 = seconds.iter().sum();
    let is_mixed = run.manifest.as_ref().is_some_and(|manifest| manifest.is_mixed);
    let tokens: f64 = run.epochs.iter().map(|e| e.tokens as f64).sum();
    let (status, failure) = match &run.status {
        Status::Done(_) => ("done", String::new()),
        Status::Failed(reason) => ("failed", one_line(reason)),
        Status::Damaged(findings) => ("damaged", one_line(&format!("damaged: {}", findings.join("; ")))),
        Status::Unfinished => ("unfinished", String::new()),
    };
    let row = RunRow {
        run: run.id.clone(),
        task: spec.task().into(),
        method: spec.method().into(),
        label: String::new(),
        title: String::new(),
        options: options(spec),
        seed: spec.seed(),
        backbone: group.backbone,
        weights_sha256: group.weights_sha256,
        tokenizer: spec.tokenizer().map(Behaviour::name).unwrap_or_default().into(),
        data_source: group.data_source,
        split: group.split,
        train_limit: spec.data().train_limit.map(|n| n as u64),
        epochs: None,
        batch_size: None,
        lr: None,
        precision: String::new(),
        train_head: String::new(),
        steps: None,
        status: status.into(),
        failure,
        collapse: String::new(),
        allocated: None,
        effective: None,
        as_published: None,
        head: None,
        epoch_seconds: median(&seconds).filter(|_| !is_mixed),
        peak_allocated_mib: peak(run, |epoch| epoch.peak_allocated_mib),
        peak_reserved_mib: peak(run, |epoch| epoch.peak_reserved_mib),
        peak_resident_mib: peak(run, |epoch| epoch.peak_resident_mib),
        tokens_per_second: (total > 0.0 && !is_mixed).then(|| tokens / total),
        wall_seconds: None,
        loading_seconds: None,
        tokenising_seconds: None,
        recording_seconds: None,
        training_seconds: None,
        evaluation_seconds: None,
        export_seconds: None,
        other_seconds: None,
        numerics: None,
        origin: String::new(),
        recipe: of_manifest(run, |manifest| manifest.origin.recipe.clone()),
        commit: of_manifest(run, |manifest| {
            format!("{}{}", manifest.git_commit, if manifest.git_dirty { "+" } else { "" })
        }),
        device: of_manifest(run, |manifest| manifest.device.clone()),
        driver: of_manifest(run, |manifest| manifest.driver.clone()),
        libtorch: of_manifest(run, |manifest| manifest.libtorch.clone()),
        threads: run.manifest.as_ref().map(|manifest| manifest.threads),
        together: run.manifest.as_ref().map(|manifest| manifest.together as u64),
        micro_batch: run.manifest.as_ref().and_then(|manifest| Some(manifest.micro_batch? as u64)),
    };
    let row = match spec {
        StoredSpec::Made(spec) => with_spec(row, spec),
        StoredSpec::External(spec) => with_stated(row, spec),
    };
    if let Status::Done(outcome) = &run.status { with_outcome(row, outcome) } else { row }
}

fn with_spec(row: RunRow, spec: &RunSpec) -> RunRow {
    RunRow {
        epochs: Some(spec.train.epochs as u64),
        batch_size: Some(spec.train.batch_size as u64),
        lr: Some(spec.train.lr),
        precision: spec.train.precision.name().into(),
        train_head: spec.train.train_head.to_string(),
        numerics: Some(spec.numerics.into()),
        origin: HERE.into(),
        ..row
    }
}

fn with_stated(row: RunRow, spec: &ExternalSpec) -> RunRow {
    RunRow {
        title: spec.title.clone(),
        epochs: spec.train.epochs.map(|n| n as u64),
        batch_size: spec.train.batch_size.map(|n| n as u64),
        lr: spec.train.lr,
        precision: spec.train.precision.map(Precision::name).unwrap_or_default().into(),
        allocated: spec.parameters.allocated,
        effective: spec.parameters.effective,
        origin: EXTERNAL.into(),
        ..row
    }
}

/// The step of the final budget, where the checkpoint of a development set was chosen before it.
fn budget_after(spec: &RunSpec, outcome: &Outcome) -> Option<u64> {
    let from = methods::registry::find(&spec.method).ok()?.final_budget_step?(&spec.options, outcome.steps?);
    let is_early = |result: &DevSetResult| result.selected_step.is_some_and(|step| step < from);
    outcome.results.iter().any(is_early).then_some(from as u64)
}

/// A reason as it can stand in a cell: on one line, without backticks, which would be code.
fn one_line(text: &str) -> String {
    text.replace('`', "'").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn peak(run: &RunRecord, of: impl Fn(&EpochRow) -> Option<f64>) -> Option<f64> {
    run.epochs.iter().filter_map(of).max_by(f64::total_cmp)
}

fn of_manifest(run: &RunRecord, of: impl Fn(&Manifest) -> String) -> String {
    run.manifest.as_ref().map(of).unwrap_or_default()
}

fn with_outcome(row: RunRow, outcome: &Outcome) -> RunRow {
    let (counts, memory) = (outcome.parameters.as_ref(), &outcome.memory);
    let seconds = |of: fn(&Seconds) -> f64| outcome.seconds.as_ref().map(of);
    RunRow {
        collapse: outcome.collapse.join("; "),
        allocated: counts.map_or(row.allocated, |counts| Some(counts.allocated)),
        effective: counts.map_or(row.effective, |counts| Some(counts.effective)),
        as_published: counts.map(|counts| counts.as_published),
        head: counts.map(|counts| counts.head),
        steps: outcome.steps.map(|steps| steps as u64),
        wall_seconds: outcome.wall_seconds,
        loading_seconds: seconds(|parts| parts.loading),
        tokenising_seconds: seconds(|parts| parts.tokenising),
        recording_seconds: seconds(|parts| parts.recording),
        training_seconds: seconds(|parts| parts.training),
        evaluation_seconds: seconds(|parts| parts.evaluation),
        export_seconds: seconds(|parts| parts.export),
        other_seconds: seconds(|parts| parts.other),
        peak_allocated_mib: memory.peak_allocated_mib.or(row.peak_allocated_mib),
        peak_reserved_mib: memory.peak_reserved_mib.or(row.peak_reserved_mib),
        peak_resident_mib: memory.peak_resident_mib.or(row.peak_resident_mib),
        ..row
    }
}

/// Every metric of each development set, computed anew from the stored predictions; a stored score stands where there are none.
fn scores(outcome: &Outcome, sets: &[SetPredictions], metrics: &[Metric]) -> Vec<ScoreRow> {
    let mut scores = Vec::new();
    for result in &outcome.results {
        let predicted = reported(sets, &result.dev_set);
        let computed = |metric: &Metric| {
            let value = predicted.map(|set| metric.compute(&set.labels, &set.predictions).ok())?;
            Some((metric.name().to_string(), value))
        };
        let mut values: Vec<(String, Option<f64>)> = metrics.iter().filter_map(computed).collect();
        for (metric, value) in &result.test {
            if !values.iter().any(|(name, _)| name == metric) {
                values.push((metric.clone(), Some(*value)));
            }
        }
        scores.extend(values.into_iter().map(|(metric, value)| ScoreRow {
            dev_set: result.dev_set.clone(),
            metric,
            value: value.filter(|value| value.is_finite()),
            test_examples: Some(result.test_examples as u64),
            selected_step: result.selected_step.map(|step| step as u64),
            selection_metric: result.selection_metric.clone(),
        }));
    }
    scores
}

fn selection(evals: &[EvalRow], dev_set: &str, metric: &str) -> Vec<(f64, f64)> {
    let chosen = evals.iter().filter(|e| e.split == "validation" && e.dev_set == dev_set && e.metric == metric);
    chosen.map(|eval| (eval.epoch, eval.value)).collect()
}

/// Rows of the selected step; of the last one where the selected step has none.
fn selected_ranks(ranks: &[RankRow], selected: Option<u64>) -> Vec<RankPoint> {
    let is_there = |step: &u64| ranks.iter().any(|rank| rank.step as u64 == *step);
    let last = || ranks.iter().map(|rank| rank.step as u64).max();
    let Some(step) = selected.filter(is_there).or_else(last) else { return Vec::new() };
    let kind = |name: &str| match KINDS.iter().find(|kind| **kind == name) {
        Some(kind) => Cow::Borrowed(*kind),
        None => Cow::Owned(name.to_string()),
    };
    let point = |rank: &RankRow| RankPoint {
        layer: rank.layer as u32,
        kind: kind(&rank.kind),
        rank: rank.rank as i32,
        max_rank: rank.max_rank as i32,
    };
    ranks.iter().filter(|rank| rank.step as u64 == step).map(point).collect()
}
