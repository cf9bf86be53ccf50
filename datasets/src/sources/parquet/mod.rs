//! Rows of a parquet file as the Hub has it.

mod content;
mod thrift;

use std::path::Path;

use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use sha2::{Digest, Sha256};

use self::content::ParquetContent;
use crate::dataset::{Example, ParsedFile};
use crate::error::{Error, Result, guarded};
use crate::sources::columns::{CHECK_FILE, ColumnIndex, GET_AGAIN, LinePosition, corrupt, example, label};
use crate::sources::compression::{bytes, most_unpacked};
use crate::task::{Labels, Source};

/// The Hub's column with the rows' numbers.
const INDEX: &str = "idx";

/// Reads a parquet file as the Hub's `nyu-mll/glue` has it. Labels are integers of any width, truth values, numbers or
/// names; names in the file's own metadata decide what an integer means.
///
/// # Errors
/// [`Error::Io`] and [`Error::Corrupt`] where the file cannot be read or lacks a column, [`Error::Row`] where a row does
/// not fit or `idx` does not grow: splits depend on the Hub's order.
pub fn read(labels: &Labels, source: &Source, path: &Path) -> Result<ParsedFile> {
    guarded(path, "parquet", || rows(labels, source, path))
}

fn rows(labels: &Labels, source: &Source, path: &Path) -> Result<ParsedFile> {
    let content = bytes(path)?;
    let sha256 = hex::encode(Sha256::digest(&content));
    let (size, mut left) = (content.len(), most_unpacked(content.len()));
    let damaged = |error: ParquetError| unreadable(path, &error);
    let reader = ParquetContent::new(content).and_then(SerializedFileReader::new).map_err(damaged)?;
    let metadata = reader.metadata().file_metadata();
    let columns: Vec<&str> = metadata.schema().get_fields().iter().map(|field| field.name()).collect();
    let at = ColumnIndex::of(source, &columns, columns.len(), path)?;
    let names = stored_names(labels, columns[at.label], metadata.key_value_metadata(), path)?;
    let index = columns.iter().position(|name| *name == INDEX);
    let (mut examples, mut last) = (Vec::new(), None);
    for row in reader.get_row_iter(None).map_err(damaged)? {
        let fields: Vec<Field> = row.map_err(damaged)?.into_columns().into_iter().map(|(_, field)| field).collect();
        let place = LinePosition { path, line: examples.len() + 1 };
        if let Some(index) = index {
            last = Some(growing(&fields[index], last, &place)?);
        }
        let text = at.text.iter().map(|&at| text(&fields[at], &place)).collect::<Result<Vec<String>>>()?;
        let taken = size_of::<Example>() + text.iter().map(String::len).sum::<usize>();
        left = left.checked_sub(taken as u64).ok_or_else(|| {
            corrupt(path, "parquet", format!("its rows hold far more than its {size} bytes, which text never does"))
        })?;
        let label = label(labels, &named(&fields[at.label], names.as_deref()), &place)?;
        examples.push(example(text, label, examples.len()));
    }
    Ok(ParsedFile { examples, sha256 })
}

fn unreadable(path: &Path, error: &ParquetError) -> Error {
    let detail = error.to_string();
    match error {
        ParquetError::NYI(_) => {
            let help = "Write the file with another compression or encoding, e.g. snappy".into();
            Error::Corrupt { path: path.into(), format: "parquet", detail, help }
        }
        _ => corrupt(path, "parquet", detail),
    }
}

/// The names of the classes that the file's own metadata gives, as the `datasets` library writes them, by id.
fn stored_names(
    labels: &Labels,
    column: &str,
    metadata: Option<&Vec<KeyValue>>,
    path: &Path,
) -> Result<Option<Vec<String>>> {
    let Labels::Classes(ours) = labels else { return Ok(None) };
    let stored = metadata.into_iter().flatten().find(|entry| entry.key == "huggingface");
    let stored = stored.and_then(|entry| serde_json::from_str::<Value>(entry.value.as_deref()?).ok());
    let Some(names) = stored.as_ref().and_then(|info| info["info"]["features"][column]["names"].as_array()) else {
        return Ok(None);
    };
    let names: Vec<String> = names.iter().map(|name| name.as_str().unwrap_or_default().to_string()).collect();
    let is_number = names.iter().enumerate().all(|(id, name)| *name == id.to_string());
    if is_number {
        return Ok(None);
    }
    match names.iter().find(|name| !ours.contains(&name.as_str())) {
        None => Ok(Some(names)),
        Some(stranger) => Err(Error::Corrupt {
            path: path.into(),
            format: "parquet",
            detail: format!("its metadata names the label '{stranger}', expected {}", ours.join(", ")),
            help: CHECK_FILE.into(),
        }),
    }
}

/// A label as a TSV file would hold it; an integer by the name that the file gives it.
fn named(field: &Field, names: Option<&[String]>) -> String {
    let text = match field {
        Field::Str(name) => return name.clone(),
        Field::Bool(value) => u8::from(*value).to_string(),
        Field::Float(score) => score.to_string(),
        Field::Double(score) => score.to_string(),
        other => other.to_string(),
    };
    let name = names.and_then(|names| names.get(text.parse::<usize>().ok()?));
    name.cloned().unwrap_or(text)
}

fn text(field: &Field, place: &LinePosition) -> Result<String> {
    match field {
        Field::Str(text) => Ok(text.clone()),
        other => Err(place.error("text".into(), other.to_string(), GET_AGAIN)),
    }
}

fn growing(index: &Field, last: Option<i64>, place: &LinePosition) -> Result<i64> {
    let value = match index {
        Field::Byte(value) => Some(i64::from(*value)),
        Field::Short(value) => Some(i64::from(*value)),
        Field::Int(value) => Some(i64::from(*value)),
        Field::Long(value) => Some(*value),
        Field::UByte(value) => Some(i64::from(*value)),
        Field::UShort(value) => Some(i64::from(*value)),
        Field::UInt(value) => Some(i64::from(*value)),
        Field::ULong(value) => i64::try_from(*value).ok(),
        _ => None,
    };
    value.filter(|value| last.is_none_or(|last| *value > last)).ok_or_else(|| {
        let expected = last.map_or("a whole number as idx".into(), |last| format!("an idx above {last}"));
        place.error(expected, index.to_string(), "The rows are not in the Hub's order, on which splits depend")
    })
}
