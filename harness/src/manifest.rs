//! Origin of a run's numbers besides its specification: source tree, recipe, libraries, device, files.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::device;
use crate::inputs::{Inputs, TaskData};
use crate::store::Manifest;

const CARGO_LOCK: &[u8] = include_bytes!("../../Cargo.lock");

/// Commit of the source tree this program was built from, `unknown` where it was built outside a checkout.
pub const COMMIT: &str = env!("RANKBENCH_COMMIT");

/// Whether that tree had changes that were not committed.
pub fn is_dirty() -> bool {
    env!("RANKBENCH_DIRTY") == "true"
}

/// Where the runs of a sweep come from: the recipe, and by method the rule it gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecipeRules {
    /// Name of the recipe.
    pub recipe: String,
    /// Rule by method: see [`RunOrigin::rule`].
    pub rules: BTreeMap<String, String>,
}

impl RecipeRules {
    /// Of one method's runs.
    pub fn of(&self, method: &str) -> RunOrigin {
        RunOrigin { recipe: self.recipe.clone(), rule: self.rules.get(method).cloned().unwrap_or_default() }
    }
}

/// The recipe a run was made for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct RunOrigin {
    /// Name of the recipe.
    pub recipe: String,
    /// First digits of the sha256 of everything in recipe and flags that sets training and options of the method on any task. Runs of
    /// one rule are one row of a table, however their options differ from task to task.
    pub rule: String,
}

/// The manifest of a run that starts now, one of `together` side by side, `previous` being what a cut-off start left behind.
pub fn manifest(inputs: &Inputs, data: &TaskData, together: usize, previous: Option<Manifest>) -> Manifest {
    Manifest {
        rankbench: env!("CARGO_PKG_VERSION").into(),
        git_commit: COMMIT.into(),
        git_dirty: is_dirty(),
        cargo_lock_sha256: hex::encode(Sha256::digest(CARGO_LOCK)),
        libtorch: torch_ext::device::version(),
        device: device::name(inputs.device),
        driver: device::driver_of(inputs.device),
        threads: i64::from(tch::get_num_threads()),
        together,
        origin: RunOrigin::default(),
        files: inputs.files.iter().chain(&data.files).cloned().collect(),
        started_unix: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        restarts: previous.map_or(0, |manifest| manifest.restarts + 1),
    }
}
