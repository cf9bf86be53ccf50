//! The content of a file as its readers see it: never more than the file can hold.

use std::io::{Error, ErrorKind, Read, Result};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

/// Bytes that a compressed file may unpack to, for each of its own: text packs to a quarter, the same row again and again
/// to a fortieth.
const MOST_UNPACKED: u64 = 64;
/// Bytes that a small file may unpack to.
const LEAST_UNPACKED: u64 = 1 << 20;
/// Bytes at the end of a parquet file that say where its metadata is.
const FOOTER: u64 = 8;
/// Type of a parquet page with the values that others refer to.
const DICTIONARY: u64 = 2;

/// Bytes that `packed` bytes may unpack to.
pub(crate) fn most_unpacked(packed: usize) -> u64 {
    (packed as u64).saturating_mul(MOST_UNPACKED).saturating_add(LEAST_UNPACKED)
}

/// Reads all that `unpacking` gives of `packed` bytes.
///
/// # Errors
/// Those of `unpacking`; far more bytes than text packs into so few.
pub(crate) fn unpacked(unpacking: impl Read, packed: usize) -> Result<Vec<u8>> {
    let most = most_unpacked(packed);
    let mut content = Vec::new();
    unpacking.take(most + 1).read_to_end(&mut content)?;
    if content.len() as u64 > most {
        return Err(Error::other(format!("its {packed} bytes unpack to more than {most}, which text never does")));
    }
    Ok(content)
}

/// A parquet file in memory. The library makes room for as much as a page's header says, and skips a field for as long as it
/// says, past the end of the file too; so a header is checked before, and reading past the end is an error.
pub(crate) struct ParquetContent(pub Bytes);

/// What follows a place of a file.
pub(crate) struct Rest(Bytes);

impl Length for ParquetContent {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

impl ChunkReader for ParquetContent {
    type T = Rest;

    fn get_read(&self, start: u64) -> ParquetResult<Rest> {
        let rest = self.get_bytes(start, self.len().saturating_sub(start) as usize)?;
        if rest.len() as u64 != FOOTER && !is_sound_page(&rest, most_unpacked(self.0.len())) {
            return Err(ParquetError::General(format!("the page at byte {start} is damaged")));
        }
        Ok(Rest(rest))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        self.0.get_bytes(start, length)
    }
}

/// Whether a page's header is one, and what it says of the page's size is possible. Thrift's compact form: type, sizes, perhaps
/// a checksum, then a structure that begins with the number of values.
fn is_sound_page(mut header: &[u8], most: u64) -> bool {
    let header = &mut header;
    let (Some(kind), Some(unpacked), Some(_)) = (number(header), number(header), number(header)) else { return false };
    let _checksum = number(header);
    let Some((_, rest)) = header.split_first() else { return false };
    *header = rest;
    // A value of a dictionary takes four bytes or more.
    unpacked <= most && (kind != DICTIONARY || number(header).is_some_and(|values| values <= unpacked / 4))
}

/// The next field, where it is a number of 32 bits, from 0 on.
fn number(fields: &mut &[u8]) -> Option<u64> {
    let mut rest = fields.strip_prefix(&[0x15])?;
    let mut zigzag = 0;
    for shift in (0..35).step_by(7) {
        let (byte, next) = rest.split_first()?;
        rest = next;
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            *fields = rest;
            return (zigzag & 1 == 0).then_some(zigzag >> 1);
        }
    }
    None
}

impl Read for Rest {
    fn read(&mut self, target: &mut [u8]) -> Result<usize> {
        if self.0.is_empty() && !target.is_empty() {
            return Err(Error::new(ErrorKind::UnexpectedEof, "it ends within a page"));
        }
        let count = target.len().min(self.0.len());
        target[..count].copy_from_slice(&self.0.split_to(count));
        Ok(count)
    }
}
