//! A run that this process makes. Its directory holds `run.toml`, `manifest.json`, `epochs.csv`, `evals.csv`, `ranks.csv`, `steps.csv`,
//! `gates.csv`, `predictions.csv`, `outcome.json`, `adapter/`, and `DONE` written last, or `FAILED` with the reason. Files are written under a temporary name and renamed.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::store::files::{PARTIAL, csv_bytes, read_json, sync_files, write_atomically, write_unsynced};
use crate::store::lease::{Lease, PREFIX};
use crate::store::record::Manifest;
use crate::store::rows::Outcome;
use crate::store::sums::{file_names, sums};

const MANIFEST: &str = "manifest.json";
/// File with the state of a run between two steps.
pub const CHECKPOINT: &str = "checkpoint.safetensors";

/// A run's directory, open for writing as long as this process has its lease.
#[derive(Debug)]
pub struct LeasedRun {
    path: PathBuf,
    lease: Lease,
}

impl LeasedRun {
    /// The run whose lease this is. What a killed process was about to write is removed.
    pub fn new(path: PathBuf, lease: Lease) -> Self {
        let entries = [path.clone(), path.join("adapter")].map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
        for entry in entries.into_iter().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(PARTIAL) && !name.starts_with(PREFIX) {
                let _ = fs::remove_file(entry.path());
            }
        }
        LeasedRun { path, lease }
    }

    /// Directory of the run.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one file under a temporary name and renames it. It is synced when the run is finished: a start that was cut off goes on
    /// from its checkpoint and needs no other file.
    ///
    /// # Errors
    /// The run was taken over, or the file cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_by(write_unsynced, name, bytes)
    }

    /// The same for a file that a later start needs: it is synced before it is renamed.
    fn write_synced(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.write_by(write_atomically, name, bytes)
    }

    fn write_by(&self, write: fn(&Path, &[u8]) -> Result<()>, name: &str, bytes: &[u8]) -> Result<()> {
        self.lease.check()?;
        // A process that took the run over has cleared what this one was about to write.
        write(&self.path.join(name), bytes).map_err(|error| self.lease.check().err().unwrap_or(error))
    }

    /// Writes rows as CSV.
    pub fn write_rows<T: Serialize>(&self, name: &str, rows: &[T]) -> Result<()> {
        self.write(name, &csv_bytes(name, rows)?)
    }

    /// Writes a value as JSON.
    pub fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        self.write(name, json_text(name, value)?.as_bytes())
    }

    /// Writes the manifest, which a later start reads.
    ///
    /// # Errors
    /// As [`LeasedRun::write`].
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<()> {
        self.write_synced(MANIFEST, json_text(MANIFEST, manifest)?.as_bytes())
    }

    /// Writes the run's checkpoint, which takes the place of the one before once it was read back.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_checkpoint(&self, bytes: &[u8]) -> Result<()> {
        self.write_synced(CHECKPOINT, bytes)
    }

    /// The run's checkpoint, where a start that was cut off left one.
    pub fn checkpoint(&self) -> Option<Vec<u8>> {
        fs::read(self.path.join(CHECKPOINT)).ok()
    }

    /// Removes the run's checkpoint, where it is not another process's by now.
    pub fn discard_checkpoint(&self) {
        let _ = self.discard(CHECKPOINT);
    }

    /// Removes a file that an earlier start may have left.
    ///
    /// # Errors
    /// The run was taken over.
    pub fn discard(&self, name: &str) -> Result<()> {
        self.lease.check()?;
        let _ = fs::remove_file(self.path.join(name));
        Ok(())
    }

    /// Marks the run as finished: `outcome.json`, then, once every file is on the disk, `DONE` with the sha256 of each.
    pub fn finish(&self, outcome: &Outcome) -> Result<()> {
        self.write_json("outcome.json", outcome)?;
        sync_files(&self.path, &file_names(&self.path)).map_err(|error| self.lease.check().err().unwrap_or(error))?;
        let _ = fs::remove_file(self.path.join("FAILED"));
        self.discard_checkpoint();
        self.write_synced("DONE", sums(&self.path)?.as_bytes())
    }

    /// Marks the run as failed with a reason; a later sweep tries it again.
    pub fn fail(&self, reason: &str) -> Result<()> {
        self.write_synced("FAILED", reason.as_bytes())
    }

    /// The manifest: this start's, or before it what an earlier, cut-off start left behind.
    pub fn manifest(&self) -> Option<Manifest> {
        read_json(&self.path.join(MANIFEST)).ok()
    }
}

fn json_text<T: Serialize>(name: &str, value: &T) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|e| Error::Internal(format!("{name}: {e}")))
}
