//! What explains a run's numbers besides its specification: source tree, libraries, device, files.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::inputs::{Inputs, TaskData};
use crate::store::Manifest;
use crate::{device, home};

const CARGO_LOCK: &[u8] = include_bytes!("../../Cargo.lock");

/// The manifest of a run that starts now, one of `together` side by side, `previous` being what a cut-off start left behind.
pub fn manifest(inputs: &Inputs, data: &TaskData, together: usize, previous: Option<Manifest>) -> Manifest {
    let (git_commit, git_dirty) = source_tree(&home::dir());
    Manifest {
        rankbench: env!("CARGO_PKG_VERSION").into(),
        git_commit,
        git_dirty,
        cargo_lock_sha256: hex::encode(Sha256::digest(CARGO_LOCK)),
        libtorch: torch_ext::version(),
        device: device::name(inputs.device),
        driver: if inputs.device.is_cuda() { device::driver().unwrap_or_default() } else { String::new() },
        threads: i64::from(tch::get_num_threads()),
        together,
        files: inputs.files.iter().chain(&data.files).cloned().collect(),
        started_unix: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        restarts: previous.map_or(0, |manifest| manifest.restarts + 1),
    }
}

/// Commit of the source tree and whether it has uncommitted changes.
fn source_tree(dir: &Path) -> (String, bool) {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(dir).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    match git(&["rev-parse", "HEAD"]) {
        None => ("unknown".into(), false),
        Some(commit) => (commit, git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty())),
    }
}
