//! A run is a directory: `run.toml`, `manifest.json`, `epochs.csv`, `evals.csv`, `ranks.csv`, `predictions.csv`,
//! `outcome.json`, `adapter/`, and `DONE` written last, or `FAILED` with the reason. Files are written under a temporary name and renamed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fsck;
use crate::manifest::RunOrigin;
use crate::record::{EpochRow, EvalRow, Outcome, PredictionRow, RankRow};
use crate::spec::RunSpec;

/// File whose lock the process that makes a run holds.
pub const LOCK: &str = "LOCK";

/// Ending of a file that is being written.
pub const PARTIAL: &str = ".partial";

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
    /// `predictions.csv`, set by set.
    pub predictions: Vec<SetPredictions>,
}

/// One run directory, open for writing.
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Opens (or makes) `<runs>/<id>` and writes `run.toml` when it is new.
    pub fn open(runs: &Path, spec: &RunSpec) -> Result<Self> {
        let path = runs.join(spec.id());
        fs::create_dir_all(&path).map_err(|e| Error::output(&path, e))?;
        let dir = RunDir { path };
        if !dir.path.join("run.toml").exists() {
            let text = toml::to_string_pretty(spec).map_err(|e| Error::Internal(format!("run.toml: {e}")))?;
            dir.write("run.toml", text.as_bytes())?;
        }
        Ok(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the run is finished.
    pub fn is_done(&self) -> bool {
        self.path.join("DONE").exists()
    }

    /// The run's lock, held until the file is dropped or the process ends; none while another process has it.
    ///
    /// # Errors
    /// The file cannot be made, or its file system knows no locks.
    pub fn try_lock(&self) -> Result<Option<fs::File>> {
        let path = self.path.join(LOCK);
        let file = fs::File::create(&path).map_err(|e| Error::output(&path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(Error::output(&path, e)),
        }
    }

    /// Writes one file under a temporary name, syncs it and renames it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        write_atomically(&self.path.join(name), bytes)
    }

    /// Writes rows as CSV.
    pub fn write_rows<T: Serialize>(&self, name: &str, rows: &[T]) -> Result<()> {
        write_csv(&self.path.join(name), rows)
    }

    /// Writes a value as JSON.
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let text = serde_json::to_string_pretty(value).map_err(|e| Error::Internal(format!("{name}: {e}")))?;
        self.write(name, text.as_bytes())
    }

    /// Marks the run as finished: `outcome.json`, then `DONE` with the sha256 of every other file.
    pub fn finish(&self, outcome: &Outcome) -> Result<()> {
        self.write_json("outcome.json", outcome)?;
        let _ = fs::remove_file(self.path.join("FAILED"));
        self.write("DONE", fsck::sums(&self.path)?.as_bytes())
    }

    /// Marks the run as failed with a reason; a later sweep tries it again.
    pub fn fail(&self, reason: &str) -> Result<()> {
        self.write("FAILED", reason.as_bytes())
    }

    /// The manifest an earlier, cut-off start left behind.
    pub fn previous_manifest(&self) -> Option<Manifest> {
        read_json(&self.path.join("manifest.json")).ok()
    }
}

/// Writes rows as a CSV file, through a temporary name.
///
/// # Errors
/// The file cannot be written.
pub fn write_csv<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let internal = |e: String| Error::Internal(format!("{}: {e}", path.display()));
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(|e| internal(e.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|e| internal(e.to_string()))?;
    write_atomically(path, &bytes)
}

/// Writes `bytes` to `path` so that a reader sees all of it or nothing. The temporary name is this process's own: several may share
/// a directory.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| Error::output(parent, e))?;
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}-{}{PARTIAL}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let partial = PathBuf::from(partial);
    let written = fs::File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|e| {
        let _ = fs::remove_file(&partial);
        Error::output(path, e)
    })
}

/// A directory that cannot be read as a run, and why.
pub type Unreadable = (PathBuf, String);

/// Reads every run directory under `runs`, in the order of their names, and names what is no run.
///
/// # Errors
/// The folder itself cannot be read.
pub fn load_all(runs: &Path) -> Result<(Vec<RunRecord>, Vec<Unreadable>)> {
    let mut names: Vec<PathBuf> = fs::read_dir(runs)
        .map_err(|e| Error::input(runs, e))?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.is_dir())
        .collect();
    names.sort();
    let (mut records, mut others) = (Vec::new(), Vec::new());
    for path in names {
        match load(&path) {
            Ok(record) => records.push(record),
            Err(error) => others.push((path, error.to_string())),
        }
    }
    Ok((records, others))
}

/// Reads one run directory and checks it. A finished run whose files do not agree is [`Status::Damaged`].
///
/// # Errors
/// A directory without a `run.toml` that can be read.
pub fn load(path: &Path) -> Result<RunRecord> {
    let toml_path = path.join("run.toml");
    let text = fs::read_to_string(&toml_path).map_err(|e| Error::input(&toml_path, e))?;
    let spec: RunSpec = toml::from_str(&text).map_err(|e| Error::damaged(&toml_path, e))?;
    let mut findings = Vec::new();
    let mut record = RunRecord {
        id: path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        spec,
        manifest: read_json(&path.join("manifest.json")).ok(),
        status: Status::Unfinished,
        epochs: found(read_rows(&path.join("epochs.csv")), &mut findings),
        evals: found(read_rows(&path.join("evals.csv")), &mut findings),
        ranks: found(read_rows(&path.join("ranks.csv")), &mut findings),
        predictions: by_set(found(read_rows(&path.join("predictions.csv")), &mut findings)),
    };
    if path.join("DONE").exists() {
        match read_json::<Outcome>(&path.join("outcome.json")) {
            Ok(outcome) => {
                findings.extend(fsck::check(path, &record, &outcome));
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

fn found<T>(rows: Result<Vec<T>>, findings: &mut Vec<String>) -> Vec<T> {
    rows.unwrap_or_else(|error| {
        findings.push(error.to_string());
        Vec::new()
    })
}

fn by_set(rows: Vec<PredictionRow>) -> Vec<SetPredictions> {
    let mut sets: Vec<SetPredictions> = Vec::new();
    for PredictionRow { split, dev_set, row, label, prediction } in rows {
        let known = sets.iter().position(|set| set.split == split && set.dev_set == dev_set);
        let index = known.unwrap_or_else(|| {
            let (rows, labels, predictions) = Default::default();
            sets.push(SetPredictions { split, dev_set, rows, labels, predictions });
            sets.len() - 1
        });
        sets[index].rows.push(row);
        sets[index].labels.push(label);
        sets[index].predictions.push(prediction);
    }
    sets
}

/// Reads a CSV file; one that is not there yet is empty.
fn read_rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut reader = csv::Reader::from_path(path).map_err(|e| Error::damaged(path, e))?;
    reader.deserialize().collect::<std::result::Result<_, _>>().map_err(|e| Error::damaged(path, e))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|e| Error::input(path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::damaged(path, e))
}
