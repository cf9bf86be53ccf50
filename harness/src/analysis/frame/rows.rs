//! One run, and one score of it, as rows of `results.csv`.

use std::collections::BTreeSet;

use polars::prelude::{Column, DataFrame};
use serde::Deserialize;

use crate::analysis::frame::typed::{Field, FrameRow, frame_rows, internal};
use crate::error::Result;

frame_rows! {
    /// One run.
    #[derive(Deserialize)]
    pub struct RunRow {
        /// Run id.
        run: String,
        /// Method name.
        method: String,
        /// Text that tells its setting from others of the same method, e.g. `r=4`; `base` for the first setting.
        #[serde(rename = "variant")]
        label = "variant": String,
        /// Name of method and variant in tables.
        title: String,
        /// Task name.
        task: String,
        /// Split policy.
        split: String,
        /// Master seed.
        seed: u64,
        /// Every option of the method, `key=value` joined by blanks; in files each has a column of its own, `option_<name>`.
        #[serde(default)]
        options: String,
        /// Backbone, as it is shown.
        backbone: String,
        /// sha256 of its weights.
        weights_sha256: String,
        /// How the vocabulary is read.
        tokenizer: String,
        /// `micro`, `glue` or `glue-unlocked`.
        data_source: String,
        /// Most training rows used; null: all, or not stated.
        train_limit: Option<u64>,
        /// Passes over the training rows; this and the following settings are null where a run that was made elsewhere does not state them.
        epochs: Option<u64>,
        /// Rows of one step.
        batch_size: Option<u64>,
        /// Peak learning rate.
        lr: Option<f64>,
        /// Number format.
        precision: String,
        /// Whether the head was trained.
        train_head: String,
        /// Optimiser steps of the run.
        steps: Option<u64>,
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
        /// Median seconds an epoch; empty for a run that shared its steps with runs of other settings.
        epoch_seconds: Option<f64>,
        /// Peak allocated memory of the run in MiB; on a GPU.
        peak_allocated_mib: Option<f64>,
        /// Peak reserved memory of the run in MiB; on a GPU.
        peak_reserved_mib: Option<f64>,
        /// Peak resident set of the process in MiB; on a CPU.
        peak_resident_mib: Option<f64>,
        /// Tokens (padding not counted) a second of training; likewise.
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
        numerics: Option<u64>,
        /// `here`, or `external`: made elsewhere and added, its metrics computed here.
        #[serde(default = "here")]
        origin: String,
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
        /// Threads libtorch used on the CPU.
        threads: Option<i64>,
        /// Runs trained side by side.
        together: Option<u64>,
        /// Most rows that a training step took at a time, where that was not the whole batch.
        micro_batch: Option<u64>,
    }
}

frame_rows! {
    /// One metric of a run on one development set. A run without a result has one row with an empty metric in `results.csv`.
    #[derive(Default, Deserialize)]
    pub struct ScoreRow {
        /// Development set.
        dev_set: String,
        /// Metric on the test split.
        metric: String,
        /// Its value in points of 100 (0..1 or -1..1 inside the program).
        value: Option<f64>,
        /// Examples of the test split.
        test_examples: Option<u64>,
        /// Step whose checkpoint was selected.
        selected_step: Option<u64>,
        /// Selection metric.
        selection_metric: String,
    }
}

/// Origin of a run that was made here, as is every run of a file from before there were others.
pub const HERE: &str = "here";

fn here() -> String {
    HERE.into()
}

/// The column of a [`RunRow`] that the columns of its options stand for in `results.csv`.
const OPTIONS: &str = "options";
/// The column of a [`RunRow`] before which its scores stand.
const AFTER_SCORES: &str = "status";

/// Beginning of the columns of options.
pub const OPTION: &str = "option_";

/// Names of the options that any of these runs has, sorted.
pub fn option_names<'a>(runs: impl Iterator<Item = &'a RunRow>) -> Vec<String> {
    let names: BTreeSet<&str> = runs.flat_map(|run| pairs(&run.options)).map(|(name, _)| name).collect();
    names.into_iter().map(str::to_string).collect()
}

/// `key=value` joined by blanks, apart.
pub fn pairs(options: &str) -> impl Iterator<Item = (&str, &str)> {
    options.split(' ').filter_map(|pair| pair.split_once('='))
}

/// Runs and their scores as one frame, a row for each score, with a column for each of these options.
///
/// # Errors
/// A bug only.
pub fn results_data<'a>(
    runs: impl Iterator<Item = (&'a RunRow, &'a [ScoreRow])>,
    options: &[String],
) -> Result<DataFrame> {
    let empty = ScoreRow::default();
    let (mut rows, mut scores): (Vec<&RunRow>, Vec<ScoreRow>) = Default::default();
    for (row, own) in runs {
        let own = if own.is_empty() { std::slice::from_ref(&empty) } else { own };
        scores.extend(own.iter().map(|score| ScoreRow { value: score.value.map(|v| 100.0 * v), ..score.clone() }));
        rows.resize(scores.len(), row);
    }
    let option = |name: &String| {
        let value =
            |row: &&RunRow| pairs(&row.options).find(|(own, _)| own == name).map(|(_, value)| value.to_string());
        <Option<String> as Field>::column(&format!("{OPTION}{name}"), rows.iter().map(value).collect())
    };
    let mut columns: Vec<Column> = Vec::new();
    for column in RunRow::columns(&rows) {
        match column.name().as_str() {
            OPTIONS => columns.extend(options.iter().map(option)),
            AFTER_SCORES => {
                columns.extend(ScoreRow::columns(&scores.iter().collect::<Vec<_>>()));
                columns.push(column);
            }
            _ => columns.push(column),
        }
    }
    DataFrame::new(rows.len(), columns).map_err(internal)
}
