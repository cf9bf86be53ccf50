//! Data of a run that was read back from its directory.

use serde::{Deserialize, Serialize};

use crate::plan::origin::RunOrigin;
use crate::plan::spec::RunSpec;
use crate::store::rows::{EpochRow, EvalRow, Outcome, RankRow, StageRow};

/// Where a run was made: what is not part of its identity but explains its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this program.
    pub rankbench: String,
    /// Commit of the source tree the program was built from, `unknown` outside a checkout.
    pub git_commit: String,
    /// Whether the tree had uncommitted changes.
    pub git_dirty: bool,
    /// sha256 of Cargo.lock.
    pub cargo_lock_sha256: String,
    /// libtorch version.
    pub libtorch: String,
    /// Device in words.
    pub device: String,
    /// GPU driver, empty on a CPU.
    pub driver: String,
    /// Threads libtorch used.
    pub threads: i64,
    /// Runs that were trained side by side, this one among them.
    #[serde(default = "alone")]
    pub together: usize,
    /// Most rows of it that a training step took at a time, where that was not the whole batch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<usize>,
    /// The recipe it was made for.
    #[serde(default)]
    pub origin: RunOrigin,
    /// Files read, with their sha256.
    pub files: Vec<(String, String)>,
    /// Start, seconds since 1970.
    pub started_unix: u64,
    /// How many times this run was started over after being cut off.
    pub restarts: usize,
}

/// A manifest from before runs were trained side by side.
fn alone() -> usize {
    1
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Status {
    /// It has `DONE`.
    Done(Box<Outcome>),
    /// It has `FAILED`, with the reason.
    Failed(String),
    /// It was cut off or has not been started.
    Unfinished,
    /// Its files are not those that were written, or do not agree: with every finding.
    Damaged(Vec<String>),
}

/// Predictions on one split of one development set.
#[derive(Debug, Clone, PartialEq)]
pub struct SetPredictions {
    /// `validation` or `test`.
    pub split: String,
    /// Development set.
    pub dev_set: String,
    /// Rows in the source file.
    pub rows: Vec<usize>,
    /// True class ids or scores.
    pub labels: Vec<f64>,
    /// Predicted ones.
    pub predictions: Vec<f64>,
}

/// A run directory, read back.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// Name of its directory.
    pub id: String,
    /// Its specification.
    pub spec: RunSpec,
    /// Its manifest.
    pub manifest: Option<Manifest>,
    /// How it stands.
    pub status: Status,
    /// `epochs.csv`.
    pub epochs: Vec<EpochRow>,
    /// `evals.csv`.
    pub evals: Vec<EvalRow>,
    /// `ranks.csv`.
    pub ranks: Vec<RankRow>,
    /// `stages.csv`, of a run with several stages.
    pub stages: Vec<StageRow>,
    /// `predictions.csv`, set by set.
    pub predictions: Vec<SetPredictions>,
}
