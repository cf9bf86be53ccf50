//! Checksums of the files that determine an encoder.

use std::fs::File;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::checkpoint::shards::{HELP, weights};
use crate::error::{Error, Result};

/// sha256 of the files of a checkpoint directory that determine what an encoder computes: (name, sha256) of
/// `config.json` and the file with the weights, or the index of their shards and each of these.
///
/// # Errors
/// A file that cannot be read.
pub fn checksums(dir: &Path) -> Result<Vec<(String, String)>> {
    let sum =
        |path: PathBuf| {
            let mut hash = Sha256::new();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            File::open(&path)
                .and_then(|mut file| std::io::copy(&mut file, &mut hash))
                .map_err(|e| Error::Unreadable { path, reason: e.to_string(), help: HELP })?;
            Ok((name, hex::encode(hash.finalize())))
        };
    let (first, shards) = weights(dir)?;
    let shards = shards.into_iter().filter(|shard| *shard != first);
    [dir.join("config.json"), first.clone()].into_iter().chain(shards).map(sum).collect()
}
