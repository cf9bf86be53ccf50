//! The frames every table and figure is built from: `results/runs/*` → polars, one direction.
//!
//! [`Collected`] holds one frame a kind of row; [`rows`] reads a frame back as plain structs.

pub mod group;
pub mod typed;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use polars::prelude::{BooleanChunked, DataFrame, NewChunkedArray};

use crate::analysis::frame::group::{Protocol, variants};
use crate::analysis::frame::typed::{Row, frame_rows};
use crate::analysis::stats::median;
use crate::analysis::verdict;
use crate::error::{Error, Result};
use crate::plan::spec::RunSpec;
use crate::store::record::{Manifest, RunRecord, SetPredictions, Status};
use crate::store::rows::{DevSetResult, EpochRow, Outcome, Parameters, PeerRound, TimingRow};

frame_rows! {
    /// One run × development set × metric. A run without a result has one row with an empty metric.
    pub struct ResultRow {
        /// Run id.
        run: String,
        /// Task name.
        task: String,
        /// Method name.
        method: String,
        /// What tells this row's setting from others of the same method and task, e.g. `r=4`; empty when there is one.
        variant: String,
        /// Every option of the method, `key=value` joined by blanks.
        options: String,
        /// Master seed.
        seed: u64,
        /// Backbone, as it is shown.
        backbone: String,
        /// sha256 of its weights.
        weights_sha256: String,
        /// How the vocabulary is read.
        tokenizer: String,
        /// `micro`, `glue` or `glue-unlocked`.
        data_source: String,
        /// Split policy.
        split: String,
        /// Most training rows used; null: all.
        train_limit: Option<u64>,
        /// Passes over the training rows.
        epochs: u64,
        /// Rows of one step.
        batch_size: u64,
        /// Peak learning rate.
        lr: f64,
        /// Number format.
        precision: String,
        /// Whether the head was trained.
        train_head: String,
        /// Optimiser steps of the run.
        steps: Option<u64>,
        /// Development set.
        dev_set: String,
        /// Metric on the test split.
        metric: String,
        /// Its value, 0..1 or -1..1.
        value: Option<f64>,
        /// Examples of the test split.
        test_examples: Option<u64>,
        /// Step whose checkpoint was selected.
        selected_step: Option<u64>,
        /// Selection metric.
        selection_metric: String,
        /// `done`, `failed`, `damaged` or `unfinished`.
        status: String,
        /// Reason of a failed run, findings of a damaged one.
        failure: String,
        /// Signs of collapse, joined by `; `.
        collapse: String,
        /// Allocated parameters.
        allocated: Option<i64>,
        /// Effective parameters.
        effective: Option<i64>,
        /// Parameters by the authors' counter.
        as_published: Option<i64>,
        /// Trained parameters of the head.
        head: Option<i64>,
        /// Median seconds an epoch.
        epoch_seconds: Option<f64>,
        /// Peak allocated memory of the run in MiB; on a GPU.
        peak_allocated_mib: Option<f64>,
        /// Peak reserved memory of the run in MiB; on a GPU.
        peak_reserved_mib: Option<f64>,
        /// Peak resident set of the process in MiB; on a CPU.
        peak_resident_mib: Option<f64>,
        /// Tokens (padding not counted) a second of training.
        tokens_per_second: Option<f64>,
        /// Wall time of the run in seconds, and its parts.
        wall_seconds: Option<f64>,
        /// Reading the backbone.
        loading_seconds: Option<f64>,
        /// Reading and tokenising rows.
        tokenising_seconds: Option<f64>,
        /// Recording steps.
        recording_seconds: Option<f64>,
        /// Training steps.
        training_seconds: Option<f64>,
        /// Evaluation.
        evaluation_seconds: Option<f64>,
        /// Writing the adapter and the predictions.
        export_seconds: Option<f64>,
        /// The rest.
        other_seconds: Option<f64>,
        /// Numeric version of the program.
        numerics: u64,
        /// Recipe it was made for.
        recipe: String,
        /// Commit the program was built from; `+` behind it: with changes.
        commit: String,
        /// Device in words.
        device: String,
        /// GPU driver.
        driver: String,
        /// libtorch version.
        libtorch: String,
        /// Runs trained side by side.
        together: Option<u64>,
    }
}

frame_rows! {
    /// One epoch of a run.
    pub struct EpochPoint {
        /// Run id.
        run: String,
        /// Epoch, from 1.
        epoch: u64,
        /// Seconds of training.
        seconds: f64,
        /// Mean task loss.
        task_loss: f64,
    }
}

frame_rows! {
    /// One metric of one evaluation of a run.
    pub struct EvalPoint {
        /// Run id.
        run: String,
        /// Optimiser steps done.
        step: u64,
        /// Epochs done.
        epoch: f64,
        /// `validation` or `test`.
        split: String,
        /// Development set.
        dev_set: String,
        /// Metric.
        metric: String,
        /// Value, 0..1 or -1..1.
        value: f64,
    }
}

frame_rows! {
    /// One target module of a run at one evaluation.
    pub struct RankPoint {
        /// Run id.
        run: String,
        /// Optimiser steps done.
        step: u64,
        /// Layer, from 0.
        layer: u64,
        /// Kind of the module.
        kind: String,
        /// Non-zero components.
        rank: i64,
        /// Components at the start.
        max_rank: i64,
    }
}

/// Everything the report reads.
#[derive(Debug, Clone)]
pub struct Collected {
    /// [`ResultRow`]s.
    pub results: DataFrame,
    /// [`EpochPoint`]s.
    pub epochs: DataFrame,
    /// [`EvalPoint`]s.
    pub evals: DataFrame,
    /// [`RankPoint`]s.
    pub ranks: DataFrame,
    /// The interleaved timings; not tied to runs.
    pub timings: Vec<TimingRow>,
    /// Rounds of the peers' time measurement.
    pub peers: Vec<PeerRound>,
    /// Predictions by run.
    pub predictions: Rc<BTreeMap<String, Vec<SetPredictions>>>,
    /// Runs left out because a run of a later numeric version stands for them.
    pub superseded: Vec<String>,
    /// Least margin of equivalence in points.
    pub margin: f64,
}

/// Everything a report is made from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Stored runs.
    pub runs: &'a [RunRecord],
    /// The interleaved timings.
    pub timings: &'a [TimingRow],
    /// Rounds of the peers' time measurement.
    pub peers: &'a [PeerRound],
    /// Least margin of equivalence in points.
    pub margin: f64,
}

impl<'a> Sources<'a> {
    /// Runs alone, with the usual margin.
    pub fn of_runs(runs: &'a [RunRecord]) -> Self {
        Sources { runs, timings: &[], peers: &[], margin: verdict::MARGIN }
    }
}

/// Collects everything into frames. Of runs that differ in their numeric version only, the latest counts.
///
/// # Errors
/// A bug only: columns of different lengths.
pub fn collect(sources: Sources) -> Result<Collected> {
    let (runs, superseded) = current(sources.runs);
    let variants = variants(&runs);
    let results: Vec<ResultRow> =
        runs.iter().zip(variants).flat_map(|(run, variant)| results_of(run, variant)).collect();
    let epochs: Vec<EpochPoint> = runs.iter().flat_map(epochs_of).collect();
    let evals: Vec<EvalPoint> = runs.iter().flat_map(evals_of).collect();
    let ranks: Vec<RankPoint> = runs.iter().flat_map(ranks_of).collect();
    let predictions = runs.into_iter().map(|run| (run.id, run.predictions)).collect();
    Ok(Collected {
        results: frame(&results)?,
        epochs: frame(&epochs)?,
        evals: frame(&evals)?,
        ranks: frame(&ranks)?,
        timings: sources.timings.to_vec(),
        peers: sources.peers.to_vec(),
        predictions: Rc::new(predictions),
        superseded,
        margin: sources.margin,
    })
}

/// The runs of the latest numeric version of each specification, and the names of the others.
fn current(runs: &[RunRecord]) -> (Vec<RunRecord>, Vec<String>) {
    let of_any_version = |run: &RunRecord| RunSpec { numerics: 0, ..run.spec.clone() }.id();
    let mut latest: BTreeMap<String, u32> = BTreeMap::new();
    for run in runs {
        let version = latest.entry(of_any_version(run)).or_default();
        *version = (*version).max(run.spec.numerics);
    }
    let is_latest = |run: &&RunRecord| latest.get(&of_any_version(run)) == Some(&run.spec.numerics);
    let (kept, left): (Vec<&RunRecord>, Vec<&RunRecord>) = runs.iter().partition(is_latest);
    (kept.into_iter().cloned().collect(), left.into_iter().map(|run| run.id.clone()).collect())
}

impl Collected {
    /// The distinct (data source, backbone, split) in it, sorted.
    pub fn protocols(&self) -> Result<Vec<Protocol>> {
        let all: BTreeSet<Protocol> = rows::<ResultRow>(&self.results)?.iter().map(Protocol::of).collect();
        Ok(all.into_iter().collect())
    }

    /// Only the runs of one protocol.
    pub fn of(&self, protocol: &Protocol) -> Result<Collected> {
        let results = rows::<ResultRow>(&self.results)?;
        let runs: BTreeSet<&str> =
            results.iter().filter(|row| Protocol::of(row) == *protocol).map(|row| row.run.as_str()).collect();
        let keep = |data: &DataFrame| keep_runs(data, &runs);
        Ok(Collected {
            results: keep(&self.results)?,
            epochs: keep(&self.epochs)?,
            evals: keep(&self.evals)?,
            ranks: keep(&self.ranks)?,
            timings: self.timings.clone(),
            peers: self.peers.clone(),
            predictions: Rc::clone(&self.predictions),
            superseded: self.superseded.clone(),
            margin: self.margin,
        })
    }

    /// The results as structs.
    pub fn results(&self) -> Result<Vec<ResultRow>> {
        rows(&self.results)
    }
}

/// Rows as a frame.
pub fn frame<R: Row>(rows: &[R]) -> Result<DataFrame> {
    DataFrame::new(rows.len(), R::columns(rows)).map_err(internal)
}

/// A frame as rows.
pub fn rows<R: Row>(frame: &DataFrame) -> Result<Vec<R>> {
    R::read(frame).map_err(internal)
}

/// A frame as CSV, through the `csv` crate; null is an empty field.
pub fn to_csv(frame: &DataFrame) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(frame.get_column_names().iter().map(|name| name.as_str())).map_err(internal)?;
    let columns =
        frame.columns().iter().map(typed::as_text).collect::<std::result::Result<Vec<_>, _>>().map_err(internal)?;
    for index in 0..frame.height() {
        writer.write_record(columns.iter().map(|column| column[index].as_str())).map_err(internal)?;
    }
    writer.into_inner().map_err(internal)
}

fn keep_runs(data: &DataFrame, runs: &BTreeSet<&str>) -> Result<DataFrame> {
    let names = data.column("run").and_then(|column| column.str()).map_err(internal)?;
    let mask: Vec<bool> = names.iter().map(|name| name.is_some_and(|name| runs.contains(name))).collect();
    if mask.is_empty() {
        return Ok(data.clone());
    }
    data.filter(&BooleanChunked::from_slice("keep".into(), &mask)).map_err(internal)
}

/// A failure inside the report that no input explains.
pub fn internal(error: impl std::fmt::Display) -> Error {
    Error::Internal(format!("report: {error}"))
}

fn results_of(run: &RunRecord, variant: String) -> Vec<ResultRow> {
    let base = without_result(run, variant);
    match &run.status {
        Status::Done(outcome) => done_rows(&base, outcome),
        Status::Failed(reason) => vec![ResultRow { status: "failed".into(), failure: one_line(reason), ..base }],
        Status::Damaged(findings) => {
            vec![ResultRow {
                status: "damaged".into(),
                failure: one_line(&format!("damaged: {}", findings.join("; "))),
                ..base
            }]
        }
        Status::Unfinished => vec![base],
    }
}

/// A reason as it can stand in a cell: on one line, without backticks, which would be code.
fn one_line(text: &str) -> String {
    text.replace('`', "'").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn without_result(run: &RunRecord, variant: String) -> ResultRow {
    let spec = &run.spec;
    let protocol = Protocol::from_spec(spec);
    let seconds: Vec<f64> = run.epochs.iter().map(|e| e.seconds).collect();
    let total: f64 = seconds.iter().sum();
    let tokens: f64 = run.epochs.iter().map(|e| e.tokens as f64).sum();
    ResultRow {
        run: run.id.clone(),
        task: spec.task.clone(),
        method: spec.method.clone(),
        variant,
        options: group::options(spec),
        seed: spec.seed,
        backbone: protocol.backbone,
        weights_sha256: protocol.weights_sha256,
        tokenizer: spec.backbone.tokenizer.name().into(),
        data_source: protocol.data_source,
        split: protocol.split,
        train_limit: spec.data.train_limit.map(|n| n as u64),
        epochs: spec.train.epochs as u64,
        batch_size: spec.train.batch_size as u64,
        lr: spec.train.lr,
        precision: spec.train.precision.name().into(),
        train_head: spec.train.train_head.to_string(),
        steps: None,
        dev_set: String::new(),
        metric: String::new(),
        value: None,
        test_examples: None,
        selected_step: None,
        selection_metric: String::new(),
        status: "unfinished".into(),
        failure: String::new(),
        collapse: String::new(),
        allocated: None,
        effective: None,
        as_published: None,
        head: None,
        epoch_seconds: median(&seconds),
        peak_allocated_mib: peak(run, |epoch| epoch.peak_allocated_mib),
        peak_reserved_mib: peak(run, |epoch| epoch.peak_reserved_mib),
        peak_resident_mib: peak(run, |epoch| epoch.peak_resident_mib),
        tokens_per_second: (total > 0.0).then(|| tokens / total),
        wall_seconds: None,
        loading_seconds: None,
        tokenising_seconds: None,
        recording_seconds: None,
        training_seconds: None,
        evaluation_seconds: None,
        export_seconds: None,
        other_seconds: None,
        numerics: u64::from(spec.numerics),
        recipe: of_manifest(run, |manifest| manifest.origin.recipe.clone()),
        commit: of_manifest(run, |manifest| {
            format!("{}{}", manifest.git_commit, if manifest.git_dirty { "+" } else { "" })
        }),
        device: of_manifest(run, |manifest| manifest.device.clone()),
        driver: of_manifest(run, |manifest| manifest.driver.clone()),
        libtorch: of_manifest(run, |manifest| manifest.libtorch.clone()),
        together: run.manifest.as_ref().map(|manifest| manifest.together as u64),
    }
}

fn peak(run: &RunRecord, of: impl Fn(&EpochRow) -> Option<f64>) -> Option<f64> {
    run.epochs.iter().filter_map(of).max_by(f64::total_cmp)
}

fn of_manifest(run: &RunRecord, of: impl Fn(&Manifest) -> String) -> String {
    run.manifest.as_ref().map(of).unwrap_or_default()
}

fn done_rows(base: &ResultRow, outcome: &Outcome) -> Vec<ResultRow> {
    let Parameters { allocated, effective, as_published, head, .. } = outcome.parameters;
    let base = ResultRow {
        status: "done".into(),
        collapse: outcome.collapse.join("; "),
        allocated: Some(allocated),
        effective: Some(effective),
        as_published: Some(as_published),
        head: Some(head),
        steps: Some(outcome.steps as u64),
        wall_seconds: Some(outcome.wall_seconds),
        loading_seconds: Some(outcome.seconds.loading),
        tokenising_seconds: Some(outcome.seconds.tokenising),
        recording_seconds: Some(outcome.seconds.recording),
        training_seconds: Some(outcome.seconds.training),
        evaluation_seconds: Some(outcome.seconds.evaluation),
        export_seconds: Some(outcome.seconds.export),
        other_seconds: Some(outcome.seconds.other),
        peak_allocated_mib: outcome.memory.peak_allocated_mib.or(base.peak_allocated_mib),
        peak_reserved_mib: outcome.memory.peak_reserved_mib.or(base.peak_reserved_mib),
        peak_resident_mib: outcome.memory.peak_resident_mib.or(base.peak_resident_mib),
        ..base.clone()
    };
    let of_metric = |result: &DevSetResult, metric: &str, value: f64| ResultRow {
        dev_set: result.dev_set.clone(),
        metric: metric.into(),
        value: value.is_finite().then_some(value),
        test_examples: Some(result.test_examples as u64),
        selected_step: Some(result.selected_step as u64),
        selection_metric: result.selection_metric.clone(),
        ..base.clone()
    };
    let all = outcome.results.iter().flat_map(|result| {
        result.test.iter().map(move |(metric, value)| of_metric(result, metric, *value)).collect::<Vec<_>>()
    });
    let all: Vec<ResultRow> = all.collect();
    if all.is_empty() { vec![base] } else { all }
}

fn epochs_of(run: &RunRecord) -> Vec<EpochPoint> {
    let point = |e: &EpochRow| EpochPoint {
        run: run.id.clone(),
        epoch: e.epoch as u64,
        seconds: e.seconds,
        task_loss: e.task_loss,
    };
    run.epochs.iter().map(point).collect()
}

fn evals_of(run: &RunRecord) -> Vec<EvalPoint> {
    let point = |e: &crate::store::rows::EvalRow| EvalPoint {
        run: run.id.clone(),
        step: e.step as u64,
        epoch: e.epoch,
        split: e.split.clone(),
        dev_set: e.dev_set.clone(),
        metric: e.metric.clone(),
        value: e.value,
    };
    run.evals.iter().map(point).collect()
}

fn ranks_of(run: &RunRecord) -> Vec<RankPoint> {
    let point = |r: &crate::store::rows::RankRow| RankPoint {
        run: run.id.clone(),
        step: r.step as u64,
        layer: r.layer as u64,
        kind: r.kind.clone(),
        rank: r.rank,
        max_rank: r.max_rank,
    };
    run.ranks.iter().map(point).collect()
}
