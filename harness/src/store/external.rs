//! Runs that were made elsewhere, stored as directories among the others. Such a directory holds `run.toml`, `added.json`,
//! `predictions.csv`, `outcome.json`, the adapter where there is one, and `DONE` with the sums of all of them.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::plan::external::ExternalSpec;
use crate::store::lease::{Claim, Watch, claim};
use crate::store::leased_run::LeasedRun;
use crate::store::read::load;
use crate::store::record::{Addition, Status};
use crate::store::rows::{Outcome, PredictionRow};
use crate::store::stored_spec::StoredSpec;

/// A run that was made elsewhere, scored and ready to be stored.
pub struct ExternalRun {
    /// Everything that is known of its setting.
    pub spec: ExternalSpec,
    /// How it came here.
    pub addition: Addition,
    /// Its predictions.
    pub predictions: Vec<PredictionRow>,
    /// Its scores.
    pub outcome: Outcome,
    /// Its adapter in PEFT's layout: configuration and weights.
    pub adapter: Option<(Value, Vec<u8>)>,
}

/// Outcome of adding a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New,
    /// The same run was there already; nothing was changed.
    Known,
    /// It took the place of another.
    Replaced,
}

impl ExternalRun {
    /// Stores the run below `runs`. Another run of its id is replaced with `force` only.
    ///
    /// # Errors
    /// Another run has its id; another process is at it; a file that cannot be written.
    pub fn store(&self, runs: &Path, force: bool) -> Result<Added> {
        let dir = runs.join(self.spec.id());
        let is_there = dir.join("DONE").exists();
        if is_there && !force && self.is_stored_in(&dir) {
            return Ok(Added::Known);
        }
        if is_there && !force {
            return Err(Error::Usage(format!(
                "{} is there already, and is not this run: its predictions, title, source or counts are others. Give another --seed, \
                 state what differs (--lr, --option KEY=VALUE, …), or replace it with --force",
                dir.display()
            )));
        }
        fs::create_dir_all(&dir).map_err(|e| Error::output(&dir, e))?;
        let lease = match claim(&dir, &Watch::default())? {
            Claim::Mine(lease) => lease,
            Claim::Other(holder) => {
                return Err(Error::Usage(format!("{}: {holder} is adding this run", dir.display())));
            }
        };
        // Without DONE nothing of the old run counts while the new one is written.
        for old in ["DONE", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"] {
            let path = dir.join(old);
            fs::remove_file(&path).or_else(|e| if path.exists() { Err(Error::output(&path, e)) } else { Ok(()) })?;
        }
        self.write(&LeasedRun::new(dir, lease))?;
        Ok(if is_there { Added::Replaced } else { Added::New })
    }

    /// Whether a directory holds this very run, whole.
    fn is_stored_in(&self, dir: &Path) -> bool {
        let Ok(stored) = load(dir) else { return false };
        let rows = stored.predictions.iter().flat_map(|set| {
            let values = set.rows.iter().zip(&set.predictions);
            values.map(move |(row, value)| (set.split.as_str(), set.dev_set.as_str(), *row, *value))
        });
        let own =
            self.predictions.iter().map(|row| (row.split.as_str(), row.dev_set.as_str(), row.row, row.prediction));
        matches!(stored.status, Status::Done(_))
            && stored.spec == StoredSpec::External(self.spec.clone())
            && rows.eq(own)
            && dir.join("adapter/adapter_config.json").is_file() == self.adapter.is_some()
    }

    fn write(&self, run: &LeasedRun) -> Result<()> {
        let text = toml::to_string_pretty(&self.spec).map_err(|e| Error::Internal(format!("run.toml: {e}")))?;
        run.write("run.toml", text.as_bytes())?;
        run.write_json("added.json", &self.addition)?;
        run.write_rows("predictions.csv", &self.predictions)?;
        if let Some((config, weights)) = &self.adapter {
            run.write_json("adapter/adapter_config.json", config)?;
            run.write("adapter/adapter_model.safetensors", weights)?;
        }
        run.finish(&self.outcome)
    }
}
