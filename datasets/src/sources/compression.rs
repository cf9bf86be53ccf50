//! Bytes of a file, unpacked where it is compressed, and never more than so many bytes can hold.

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};
use crate::sources::columns::corrupt;

const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const GZIP: &[u8] = &[0x1f, 0x8b];
/// Bytes that a compressed file may unpack to, for each of its own: text packs to a quarter, the same row again and again
/// to a fortieth.
const MOST_UNPACKED: u64 = 64;
/// Bytes that a small file may unpack to.
const LEAST_UNPACKED: u64 = 1 << 20;
/// Bytes that `packed` bytes may unpack to.
pub(crate) fn most_unpacked(packed: usize) -> u64 {
    (packed as u64).saturating_mul(MOST_UNPACKED).saturating_add(LEAST_UNPACKED)
}

/// Reads all that `unpacking` gives of `packed` bytes.
///
/// # Errors
/// Those of `unpacking`; far more bytes than text packs into so few.
pub(crate) fn unpacked(unpacking: impl Read, packed: usize) -> std::io::Result<Vec<u8>> {
    let most = most_unpacked(packed);
    let mut content = Vec::new();
    unpacking.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(std::io::Error::other(format!(
            "its {packed} bytes unpack to more than {most}, which text never does"
        )));
    }
    Ok(content)
}

/// The content of a file, plain or compressed with gzip or zstd (told apart by content).
pub(crate) fn decompressed(path: &Path) -> Result<Vec<u8>> {
    let bytes = bytes(path)?;
    let content;
    if bytes.starts_with(ZSTD) {
        let unpacking = zstd::Decoder::new(bytes.as_slice());
        let read = unpacking.and_then(|unpacking| unpacked(unpacking, bytes.len()));
        content = read.map_err(|e| corrupt(path, "zstd", e.to_string()))?;
    } else if bytes.starts_with(GZIP) {
        let read = unpacked(MultiGzDecoder::new(bytes.as_slice()), bytes.len());
        content = read.map_err(|e| corrupt(path, "gzip", e.to_string()))?;
    } else if let Some(format) = named_format(path) {
        return Err(corrupt(path, format, format!("it does not begin as {format} does")));
    } else {
        content = bytes;
    }
    Ok(content)
}

/// Compression that the file's name promises.
fn named_format(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "zst" => Some("zstd"),
        "gz" => Some("gzip"),
        _ => None,
    }
}

/// The bytes of a file as it lies.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })
}
