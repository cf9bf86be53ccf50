//! Runs read back from their directories, and checked on the way.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::store::files::{csv_error, read_json, read_rows};
use crate::store::fsck;
use crate::store::record::{RunRecord, SetPredictions, Status, StoredTraces};
use crate::store::rows::Outcome;
use crate::store::stored_spec::StoredSpec;

/// Most runs that a message names.
pub const MOST_NAMED: usize = 10;

/// The directories below `runs`, in the order of their names.
///
/// # Errors
/// The folder cannot be read.
pub fn run_dirs(runs: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(runs).map_err(|e| Error::input(runs, e))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    paths.sort();
    Ok(paths)
}

/// The run below `runs` that `given` names: its id, or the beginning of one id alone.
///
/// # Errors
/// No id or several begin so; the folder cannot be read.
pub fn find_run(runs: &Path, given: &str) -> Result<PathBuf> {
    let dirs = run_dirs(runs)?;
    let name = |dir: &PathBuf| dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if let Some(exact) = dirs.iter().find(|dir| name(dir) == given) {
        return Ok(exact.clone());
    }
    let matching: Vec<&PathBuf> = dirs.iter().filter(|dir| name(dir).starts_with(given)).collect();
    let several = |of: &[&PathBuf]| {
        let names: Vec<String> = of.iter().take(MOST_NAMED).map(|dir| name(dir)).collect();
        let more = of.len().saturating_sub(MOST_NAMED);
        names.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
    };
    match matching.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let all = several(&dirs.iter().collect::<Vec<_>>());
            Err(Error::Usage(format!("no run of {} begins with '{given}'; there are {all}", runs.display())))
        }
        candidates => {
            let (count, names) = (candidates.len(), several(candidates));
            Err(Error::Usage(format!("{count} runs of {} begin with '{given}': {names}", runs.display())))
        }
    }
}

/// Reads these run directories on every core; `of` keeps what is needed of each, so that not all of their rows are in memory at once.
pub fn load_each<T: Send>(paths: &[PathBuf], of: impl Fn(RunRecord) -> T + Sync) -> Vec<Result<T>> {
    paths.par_iter().map(|path| load(path).map(&of)).collect()
}

/// Reads one run directory and checks it. A finished run whose files do not agree is [`Status::Damaged`].
///
/// # Errors
/// A directory without a `run.toml` that can be read.
pub fn load(path: &Path) -> Result<RunRecord> {
    // Looked for first: a run that another process finishes meanwhile is read as the unfinished one that it was.
    let is_finished = path.join("DONE").exists();
    let toml_path = path.join("run.toml");
    let text = fs::read_to_string(&toml_path).map_err(|e| Error::input(&toml_path, e))?;
    let spec = StoredSpec::parse(&text).map_err(|e| Error::damaged(&toml_path, on_a_line(&e, &text)))?;
    let mut findings = Vec::new();
    let mut record = RunRecord {
        id: path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        spec,
        manifest: read_json(&path.join("manifest.json")).ok(),
        addition: read_json(&path.join("added.json")).ok(),
        status: Status::Unfinished,
        epochs: found(read_rows(&path.join("epochs.csv")), &mut findings),
        evals: found(read_rows(&path.join("evals.csv")), &mut findings),
        ranks: found(read_rows(&path.join("ranks.csv")), &mut findings),
        stages: found(read_rows(&path.join("stages.csv")), &mut findings),
        predictions: found(read_predictions(&path.join("predictions.csv")), &mut findings),
    };
    if is_finished {
        match read_json::<Outcome>(&path.join("outcome.json")) {
            Ok(outcome) => {
                findings.extend(fsck::check(path, &record, &outcome).iter().map(ToString::to_string));
                record.status = Status::Done(Box::new(outcome));
            }
            Err(error) => findings.push(error.to_string()),
        }
        if !findings.is_empty() {
            record.status = Status::Damaged(findings);
        }
    } else if let Ok(reason) = fs::read_to_string(path.join("FAILED")) {
        record.status = Status::Failed(reason);
    }
    Ok(record)
}

/// An error of TOML as it can stand in a message of one line.
fn on_a_line(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map_or(1, |place| text[..place.start].matches('\n').count() + 1);
    format!("line {line}: {}", error.message().lines().collect::<Vec<_>>().join("; "))
}

/// Reads what a run left of its steps and gates. Their sums are [`load`]'s to check.
///
/// # Errors
/// A file that cannot be read.
pub fn traces(path: &Path) -> Result<StoredTraces> {
    Ok(StoredTraces { steps: read_rows(&path.join("steps.csv"))?, gates: read_rows(&path.join("gates.csv"))? })
}

fn found<T>(rows: Result<Vec<T>>, findings: &mut Vec<String>) -> Vec<T> {
    rows.unwrap_or_else(|error| {
        findings.push(error.to_string());
        Vec::new()
    })
}

/// A row of `predictions.csv`, its texts those of the line.
#[derive(Deserialize)]
struct PredictionLine<'a> {
    split: &'a str,
    dev_set: &'a str,
    row: usize,
    label: f64,
    prediction: f64,
}

/// Reads `predictions.csv`; one that is not there yet is empty.
fn read_predictions(path: &Path) -> Result<Vec<SetPredictions>> {
    let mut sets: Vec<SetPredictions> = Vec::new();
    if !path.exists() {
        return Ok(sets);
    }
    let failed = |e: csv::Error| csv_error(path, e);
    let mut reader = csv::Reader::from_path(path).map_err(failed)?;
    let headers = reader.headers().map_err(failed)?.clone();
    let mut line = csv::StringRecord::new();
    while reader.read_record(&mut line).map_err(failed)? {
        let row: PredictionLine = line.deserialize(Some(&headers)).map_err(failed)?;
        let known = sets.iter().position(|set| set.split == row.split && set.dev_set == row.dev_set);
        let index = known.unwrap_or_else(|| {
            let (split, dev_set) = (row.split.to_string(), row.dev_set.to_string());
            let (rows, labels, predictions) = Default::default();
            sets.push(SetPredictions { split, dev_set, rows, labels, predictions });
            sets.len() - 1
        });
        sets[index].rows.push(row.row);
        sets[index].labels.push(row.label);
        sets[index].predictions.push(row.prediction);
    }
    Ok(sets)
}
