//! Sums of cached files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Fault of a cached file: its sum is not `sha256`, or else not the one its blob is named after (sha256 of a
/// large file, git's sha1 of a small one).
pub(crate) fn mismatch(path: &Path, sha256: Option<&str>) -> Option<String> {
    let blob = path.canonicalize().ok()?;
    let etag = blob.file_name()?.to_string_lossy().into_owned();
    let (expected, got) = match sha256 {
        Some(expected) => (expected.to_string(), digest::<Sha256>(&blob, String::new())),
        None if is_hex(&etag, 64) => (etag, digest::<Sha256>(&blob, String::new())),
        None if is_hex(&etag, 40) => {
            let header = format!("blob {}\0", blob.metadata().ok()?.len());
            (etag, digest::<Sha1>(&blob, header))
        }
        None => return None,
    };
    match got {
        Ok(got) if got == expected => None,
        Ok(got) => Some(format!("checksum {got}, expected {expected}")),
        Err(error) => Some(format!("unreadable: {error}")),
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn digest<D: Digest>(path: &Path, header: String) -> std::io::Result<String> {
    let mut hash = D::new();
    hash.update(header);
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
