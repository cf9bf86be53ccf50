//! Runs of a store as another process sees them while they are made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::error::Result;
use crate::plan::spec::RunSpec;
use crate::store::files::{read_json, read_rows};
use crate::store::read::run_dirs;
use crate::store::record::Manifest;
use crate::store::rows::{EpochRow, EvalRow};
use crate::store::survey::{RunState, SurveyedRun, surveyed};
use crate::train::schedule::all_epochs;

/// A run as its files show it.
#[derive(Debug, Clone)]
pub struct WatchedRun {
    /// How it stands.
    pub run: SurveyedRun,
    /// Epochs done and planned; no plan is known of a run that was made elsewhere.
    pub epochs: (usize, Option<usize>),
    /// Task loss of every epoch.
    pub losses: Vec<f64>,
    /// Last value of the validation split: metric and points.
    pub validation: Option<(String, f64)>,
    /// Training time that is left of a run in work.
    pub left: Option<Duration>,
    /// Device in words.
    pub device: Option<String>,
    /// Reason of a failure.
    pub failure: Option<String>,
}

/// The runs of a directory, looked at again and again.
#[derive(Debug)]
pub struct WatchedStore {
    runs: PathBuf,
    /// Finished runs by their directory: their files do not change.
    done: BTreeMap<PathBuf, WatchedRun>,
}

impl WatchedStore {
    /// The store whose runs lie in `runs`.
    pub fn new(runs: &Path) -> Self {
        WatchedStore { runs: runs.to_path_buf(), done: BTreeMap::new() }
    }

    /// All runs as they stand now, in the order of their names. A directory without a `run.toml` is no run yet.
    ///
    /// # Errors
    /// The folder or a run's directory cannot be read.
    pub fn look(&mut self) -> Result<Vec<WatchedRun>> {
        let dirs = run_dirs(&self.runs)?;
        let found: Vec<_> = dirs.par_iter().map(|dir| Ok((dir, self.seen(dir)?))).collect::<Result<_>>()?;
        let found: Vec<_> = found.into_iter().filter_map(|(dir, run)| Some((dir, run?))).collect();
        let done = found.iter().filter(|(_, run)| matches!(run.run.state, RunState::Done(_)));
        self.done = done.map(|(dir, run)| (dir.to_path_buf(), run.clone())).collect();
        Ok(found.into_iter().map(|(_, run)| run).collect())
    }

    fn seen(&self, dir: &Path) -> Result<Option<WatchedRun>> {
        match self.done.get(dir) {
            Some(known) if dir.join("DONE").exists() => Ok(Some(known.clone())),
            _ if !dir.join("run.toml").exists() => Ok(None),
            _ => match surveyed(dir) {
                Ok(run) => Ok(Some(watched(dir, run))),
                // It was deleted meanwhile, to be made again.
                Err(_) if !dir.exists() => Ok(None),
                Err(error) => Err(error),
            },
        }
    }
}

/// A run with what its files say. What cannot be read yet is not there yet: the run may be written meanwhile.
fn watched(dir: &Path, run: SurveyedRun) -> WatchedRun {
    let epochs: Vec<EpochRow> = read_rows(&dir.join("epochs.csv")).unwrap_or_default();
    let evals: Vec<EvalRow> = read_rows(&dir.join("evals.csv")).unwrap_or_default();
    let manifest: Option<Manifest> = read_json(&dir.join("manifest.json")).ok();
    let reason = || fs::read_to_string(dir.join("FAILED")).ok();
    let planned = run.spec.as_ref().map(|spec| all_epochs(&spec.train));
    let left = match &run.state {
        RunState::Running(_) => planned.and_then(|planned| time_left(&epochs, planned)),
        _ => None,
    };
    WatchedRun {
        epochs: (epochs.len(), planned),
        losses: epochs.iter().map(|epoch| epoch.task_loss).collect(),
        validation: run.spec.as_ref().and_then(|spec| validation(spec, &evals)),
        left,
        device: manifest.map(|manifest| manifest.device),
        failure: if run.state == RunState::Failed { reason() } else { None },
        run,
    }
}

/// The last value of the metric that selects; of the first metric where the task is not known here.
fn validation(spec: &RunSpec, evals: &[EvalRow]) -> Option<(String, f64)> {
    let selects = datasets::tasks::find(&spec.task).map(|task| task.selection.name()).ok();
    let is_wanted = |row: &&EvalRow| {
        row.split == "validation" && row.metric != "loss" && selects.is_none_or(|selects| row.metric == selects)
    };
    let row = evals.iter().rev().find(is_wanted)?;
    Some((row.metric.clone(), 100.0 * row.value))
}

/// Time of the epochs that are not done, at the mean of those that are.
fn time_left(epochs: &[EpochRow], planned: usize) -> Option<Duration> {
    let seconds: f64 = epochs.iter().map(|epoch| epoch.seconds).sum();
    let rest = planned.saturating_sub(epochs.len()) as f64;
    Duration::try_from_secs_f64(seconds / epochs.len() as f64 * rest).ok()
}
