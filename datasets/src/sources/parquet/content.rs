//! A parquet file in memory: pages are checked before the library makes room for them.

use std::io::{Error, ErrorKind, Read, Result};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use crate::sources::compression::most_unpacked;
use crate::sources::parquet::thrift;

/// Bytes at the end of a parquet file that say where its metadata is.
const FOOTER: usize = 8;
/// Type of a parquet page with the values that others refer to.
const DICTIONARY: u64 = 2;

/// A parquet file in memory. The library makes room for as much as a page's header says, so a header is checked before.
pub(crate) struct ParquetContent(Bytes);

impl ParquetContent {
    /// Takes a file's bytes.
    ///
    /// # Errors
    /// Metadata that is not whole.
    pub fn new(content: Vec<u8>) -> ParquetResult<Self> {
        let metadata = content.split_last_chunk::<FOOTER>().and_then(|(rest, tail)| {
            let [a, b, c, d, b'P', b'A', b'R', b'1'] = tail else { return None };
            let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            rest.get(rest.len().checked_sub(length)?..)
        });
        match metadata {
            Some(metadata) if !thrift::is_whole(metadata) => {
                Err(ParquetError::General("its metadata is damaged".into()))
            }
            // Without a footer it is no parquet file, which the library says better.
            _ => Ok(ParquetContent(content.into())),
        }
    }
}

/// Content of a file from a place on. Reading past its end is an error: the library takes a known field of another type for its
/// own, and then may skip a list for as long as it says.
pub(crate) struct Rest(Bytes);

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

impl Length for ParquetContent {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
}

impl ChunkReader for ParquetContent {
    type T = Rest;

    fn get_read(&self, start: u64) -> ParquetResult<Rest> {
        let rest = self.get_bytes(start, self.len().saturating_sub(start) as usize)?;
        if rest.len() != FOOTER && !is_sound_page(&rest, most_unpacked(self.0.len())) {
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
    if !thrift::is_whole(header) {
        return false;
    }
    let header = &mut header;
    let (Some(kind), Some(unpacked), Some(_)) =
        (thrift::number(header), thrift::number(header), thrift::number(header))
    else {
        return false;
    };
    let _checksum = thrift::number(header);
    let Some((_, rest)) = header.split_first() else { return false };
    *header = rest;
    // A value of a dictionary takes four bytes or more.
    unpacked <= most && (kind != DICTIONARY || thrift::number(header).is_some_and(|values| values <= unpacked / 4))
}
