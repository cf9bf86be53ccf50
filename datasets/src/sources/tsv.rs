//! Tab-separated text without any quoting. Nothing is guessed about the text: what stands between two tabs is the field, byte
//! for byte.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::dataset::ParsedFile;
use crate::error::Result;
use crate::sources::columns::{ColumnIndex, LinePosition, corrupt, example, label};
use crate::sources::compression::decompressed;
use crate::sources::lines::lines;
use crate::task::{FileFormat, Labels, Source};

/// Reads an official TSV file, plain or compressed with gzip or zstd (told apart by content).
///
/// Fields are split at tabs and nowhere else: GLUE's texts hold lone quote marks. A byte order mark, empty lines at the
/// end and a carriage return at the end of a line are not part of the text; a file that ends its lines in both ways is
/// refused.
///
/// # Errors
/// [`crate::error::Error::Io`] and [`crate::error::Error::Corrupt`] where the bytes cannot be had or a column is missing,
/// [`crate::error::Error::Row`] where a line does not fit.
pub fn read(labels: &Labels, source: &Source, path: &Path) -> Result<ParsedFile> {
    let FileFormat::Tsv { columns, skip_incomplete } = source.format else {
        return Err(corrupt(path, "TSV", format!("its task says that it is {}", source.format.name())));
    };
    let content = decompressed(path)?;
    let lines = lines(&content, path, skip_incomplete)?;
    let (index, header_lines) = match columns {
        Some(columns) => (ColumnIndex::of(source, &[], columns, path)?, 0),
        None => {
            let header = lines.first().ok_or_else(|| corrupt(path, "TSV", "it is empty".into()))?;
            let header: Vec<&str> = LinePosition { path, line: 1 }.utf8(header)?.split('\t').collect();
            (ColumnIndex::of(source, &header, header.len(), path)?, 1)
        }
    };
    // Grown row by row: a damaged file is not all rows.
    let mut examples = Vec::new();
    for (number, line) in lines.iter().enumerate().skip(header_lines) {
        let place = LinePosition { path, line: number + 1 };
        let fields: Vec<&str> = place.utf8(line)?.split('\t').collect();
        if skip_incomplete && lacks(&index, &fields) {
            continue;
        }
        if fields.len() != index.count {
            let (expected, got) = (format!("{} columns", index.count), format!("{} columns", fields.len()));
            return Err(place.error(expected, got, "The file was cut or changed. Download it again"));
        }
        let text = index.text.iter().map(|&at| fields[at].to_string());
        examples.push(example(text, label(labels, fields[index.label], &place)?, examples.len()));
    }
    Ok(ParsedFile { examples, sha256: hex::encode(Sha256::digest(&content)) })
}

/// Whether a row was cut before its last column or its label.
fn lacks(index: &ColumnIndex, fields: &[&str]) -> bool {
    fields.len() < index.count || fields.get(index.label).is_none_or(|label| label.is_empty())
}
