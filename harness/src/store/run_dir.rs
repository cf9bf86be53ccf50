//! A run is a directory: `run.toml`, `manifest.json`, `epochs.csv`, `evals.csv`, `ranks.csv`, `predictions.csv`,
//! `outcome.json`, `adapter/`, and `DONE` written last, or `FAILED` with the reason. Files are written under a temporary name and renamed.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::plan::spec::RunSpec;
use crate::store::files::{read_json, write_atomically, write_csv};
use crate::store::record::Manifest;
use crate::store::rows::Outcome;
use crate::store::sums::{LOCK, sums};

/// File with the state of a run between two steps.
pub const CHECKPOINT: &str = "checkpoint.safetensors";

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

    /// Writes the run's checkpoint, which takes the place of the one before once it was read back.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_checkpoint(&self, bytes: &[u8]) -> Result<()> {
        self.write(CHECKPOINT, bytes)
    }

    /// The run's checkpoint, where a start that was cut off left one.
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        fs::read(self.path.join(CHECKPOINT)).ok()
    }

    /// Removes the run's checkpoint.
    pub fn discard_checkpoint(&self) {
        let _ = fs::remove_file(self.path.join(CHECKPOINT));
    }

    /// Marks the run as finished: `outcome.json`, then `DONE` with the sha256 of every other file.
    pub fn finish(&self, outcome: &Outcome) -> Result<()> {
        self.write_json("outcome.json", outcome)?;
        let _ = fs::remove_file(self.path.join("FAILED"));
        self.discard_checkpoint();
        self.write("DONE", sums(&self.path)?.as_bytes())
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
