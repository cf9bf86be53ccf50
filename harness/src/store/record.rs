//! Data of a run that was read back from its directory.

use serde::{Deserialize, Serialize};

use crate::plan::origin::RunOrigin;
use crate::store::rows::{EpochRow, EvalRow, GateRow, Outcome, RankRow, StageRow, StepRow};
use crate::store::stored_spec::StoredSpec;

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
    /// Whether those differ in more than their seed: an equal share of their time is then no run's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_mixed: bool,
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

/// How a run that was made elsewhere came into the store (`added.json`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Addition {
    /// Version of the program that added it and computed its metrics.
    pub rankbench: String,
    /// Commit of the source tree that program was built from.
    pub git_commit: String,
    /// Whether the tree had uncommitted changes.
    pub git_dirty: bool,
    /// Files read, with their sha256: the predictions or the adapter, and the rows.
    pub files: Vec<(String, String)>,
    /// Time, seconds since 1970.
    pub added_unix: u64,
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

/// Steps and gates of a run; read only where a figure shows them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredTraces {
    /// `steps.csv`; empty where there is none.
    pub steps: Vec<StepRow>,
    /// `gates.csv`; empty where there is none.
    pub gates: Vec<GateRow>,
}

/// A run directory, read back.
#[derive(Debug, Clone)]
pub struct RunRecord {
    /// Name of its directory.
    pub id: String,
    /// Its specification.
    pub spec: StoredSpec,
    /// Its manifest; a run that was made elsewhere has none.
    pub manifest: Option<Manifest>,
    /// How it came here, of a run that was made elsewhere.
    pub addition: Option<Addition>,
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
