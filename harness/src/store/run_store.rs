//! A directory of runs that several processes may share.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::plan::spec::RunSpec;
use crate::store::files::write_atomically;
use crate::store::holder::Holder;
use crate::store::lease::{Claim, Watch, claim};
use crate::store::leased_run::LeasedRun;
use crate::store::stored_spec::StoredSpec;

/// File with the specification of a run.
const SPEC: &str = "run.toml";

/// Runs below one directory.
#[derive(Debug)]
pub struct RunStore {
    root: PathBuf,
    watch: Watch,
}

/// Result of asking for a run.
#[derive(Debug)]
pub enum Leased {
    /// This process makes it.
    Mine(LeasedRun),
    /// It is finished.
    Done,
    /// Another process makes it.
    Other(Holder),
}

impl RunStore {
    /// The store in `root`, which need not be there yet.
    pub fn open(root: &Path) -> Self {
        RunStore { root: root.to_path_buf(), watch: Watch::default() }
    }

    /// Directory of a run.
    pub fn dir(&self, spec: &RunSpec) -> PathBuf {
        self.root.join(spec.id())
    }

    /// Makes the run's directory with its `run.toml` where it is not there yet.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&self, spec: &RunSpec) -> Result<()> {
        let dir = self.dir(spec);
        fs::create_dir_all(&dir).map_err(|e| Error::output(&dir, e))?;
        let path = dir.join(SPEC);
        if path.exists() {
            return Ok(());
        }
        let text = text(spec)?;
        // Another process may have made it meanwhile, and cleared what this one was about to write.
        write_atomically(&path, text.as_bytes()).or_else(|error| if path.exists() { Ok(()) } else { Err(error) })
    }

    /// Whether a run is finished.
    pub fn is_done(&self, spec: &RunSpec) -> bool {
        self.dir(spec).join("DONE").exists()
    }

    /// Asks for a run. A holder on another machine is taken over from once this store has watched it in vain for long enough, so
    /// it is asked again and again.
    ///
    /// # Errors
    /// The run's directory cannot be read or written.
    pub fn lease(&self, spec: &RunSpec) -> Result<Leased> {
        if self.is_done(spec) {
            return Ok(Leased::Done);
        }
        self.add(spec)?;
        match claim(&self.dir(spec), &self.watch)? {
            Claim::Other(holder) => Ok(Leased::Other(holder)),
            // The holder before may have finished it just now.
            Claim::Mine(_) if self.is_done(spec) => Ok(Leased::Done),
            Claim::Mine(lease) => {
                let run = LeasedRun::new(self.dir(spec), lease);
                match hold_spec(&run, spec) {
                    // Another process has taken it over meanwhile.
                    Err(Error::LeaseLost { .. }) => self.lease(spec),
                    held => held.map(|()| Leased::Mine(run)),
                }
            }
        }
    }
}

/// Writes the `run.toml` of a run that is made where it is not the run's own: damaged, or edited since the run began.
fn hold_spec(run: &LeasedRun, spec: &RunSpec) -> Result<()> {
    let stored = fs::read_to_string(run.path().join(SPEC)).ok().and_then(|text| StoredSpec::parse(&text).ok());
    match stored {
        Some(stored) if stored.id() == spec.id() => Ok(()),
        _ => run.write(SPEC, text(spec)?.as_bytes()),
    }
}

fn text(spec: &RunSpec) -> Result<String> {
    toml::to_string_pretty(spec).map_err(|e| Error::Internal(format!("{SPEC}: {e}")))
}
