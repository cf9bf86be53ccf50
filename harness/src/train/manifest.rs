//! Origin of a run's numbers besides its specification: source tree, recipe, libraries, device, files.

use sha2::{Digest, Sha256};

use crate::env::{device, version};
use crate::load::backbone::Backbone;
use crate::load::task_data::TokenizedTask;
use crate::plan::origin::RunOrigin;
use crate::plan::spec::RunSpec;
use crate::store::record::Manifest;
use crate::store::unix_time;
use crate::train::parts::Parts;

const CARGO_LOCK: &[u8] = include_bytes!("../../../Cargo.lock");

/// Whether runs differ in more than their seed.
pub fn is_mixed(stack: &[&RunSpec]) -> bool {
    stack.windows(2).any(|pair| pair[0].setting() != pair[1].setting())
}

/// The manifest of a run that starts now, one of `together` side by side, `previous` being what a cut-off start left behind.
pub fn manifest(backbone: &Backbone, data: &TokenizedTask, together: usize, previous: Option<Manifest>) -> Manifest {
    let known = previous.as_ref().and_then(|manifest| manifest.micro_batch);
    Manifest {
        rankbench: env!("CARGO_PKG_VERSION").into(),
        git_commit: version::COMMIT.into(),
        git_dirty: version::is_dirty(),
        cargo_lock_sha256: hex::encode(Sha256::digest(CARGO_LOCK)),
        libtorch: torch_ext::device::version(),
        device: device::name(backbone.device),
        driver: device::driver_of(backbone.device),
        threads: i64::from(tch::get_num_threads()),
        together,
        is_mixed: false,
        micro_batch: Parts::new(backbone.micro_batch, known).rows(),
        origin: RunOrigin::default(),
        files: backbone.files.iter().chain(&data.files).cloned().collect(),
        started_unix: unix_time::now(),
        restarts: previous.map_or(0, |manifest| manifest.restarts + 1),
    }
}
