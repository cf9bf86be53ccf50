//! Reading one file of a task: decompression, TSV without any quoting, the Hub's parquet.
//!
//! Nothing is guessed about the text: what stands between two tabs is the field, byte for byte.

use std::path::Path;

use flate2::read::MultiGzDecoder;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::dataset::{Example, ParsedFile};
use crate::error::{Error, Result, guarded};
use crate::sources::content::{ParquetContent, most_unpacked, unpacked};
use crate::task::{Column, Labels, Task};

const GET_AGAIN: &str = "Download the file again";
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const GZIP: &[u8] = &[0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];
/// The Hub's columns that are not text.
const LABEL: &str = "label";
const INDEX: &str = "idx";

/// Where a row is.
struct Place<'a> {
    path: &'a Path,
    line: usize,
}

/// Where the fields of a row are.
struct Layout {
    text: Vec<usize>,
    label: usize,
    columns: usize,
}

/// Reads an official TSV file, plain or compressed with gzip or zstd (told apart by content).
///
/// Fields are split at tabs and nowhere else: GLUE's texts hold lone quote marks. A byte order mark, empty lines at the
/// end and a carriage return at the end of a line are not part of the text; a file that ends its lines in both ways is
/// refused.
///
/// # Errors
/// [`Error::Io`] and [`Error::Corrupt`] where the bytes cannot be had or a column is missing, [`Error::Row`] where a
/// line does not fit.
pub fn tsv(task: &Task, path: &Path) -> Result<ParsedFile> {
    let content = decompressed(path)?;
    let lines = lines(&content, path, task.tsv.skip_incomplete)?;
    let (layout, header_lines) = match task.tsv.columns {
        Some(columns) => (Layout::of_tsv(task, &[], columns, path)?, 0),
        None => {
            let header = lines.first().ok_or_else(|| corrupt(path, "TSV", "it is empty".into()))?;
            let header: Vec<&str> = Place { path, line: 1 }.utf8(header)?.split('\t').collect();
            (Layout::of_tsv(task, &header, header.len(), path)?, 1)
        }
    };
    // Grown row by row: a damaged file is not all rows.
    let mut examples = Vec::new();
    for (index, line) in lines.iter().enumerate().skip(header_lines) {
        let place = Place { path, line: index + 1 };
        let fields: Vec<&str> = place.utf8(line)?.split('\t').collect();
        if task.tsv.skip_incomplete && layout.lacks(&fields) {
            continue;
        }
        if fields.len() != layout.columns {
            let (expected, got) = (format!("{} columns", layout.columns), format!("{} columns", fields.len()));
            return Err(place.error(expected, got, "The file was cut or changed. Download it again"));
        }
        let text = layout.text.iter().map(|&at| fields[at].to_string());
        examples.push(example(text, label(&task.labels, fields[layout.label], &place)?, examples.len()));
    }
    Ok(ParsedFile { examples, sha256: hex::encode(Sha256::digest(&content)) })
}

/// Reads a parquet file as the Hub's `nyu-mll/glue` has it. Labels are integers of any width, truth values, numbers or
/// names; names in the file's own metadata decide what an integer means.
///
/// # Errors
/// [`Error::Io`] and [`Error::Corrupt`] where the file cannot be read or lacks a column, [`Error::Row`] where a row does
/// not fit or `idx` does not grow: splits depend on the Hub's order.
pub fn parquet(task: &Task, path: &Path) -> Result<ParsedFile> {
    guarded(path, "parquet", || parquet_rows(task, path))
}

fn parquet_rows(task: &Task, path: &Path) -> Result<ParsedFile> {
    let content = bytes(path)?;
    let sha256 = hex::encode(Sha256::digest(&content));
    let (size, mut left) = (content.len(), most_unpacked(content.len()));
    let damaged = |error: ParquetError| unreadable(path, &error);
    let reader = ParquetContent::new(content).and_then(SerializedFileReader::new).map_err(damaged)?;
    let metadata = reader.metadata().file_metadata();
    let columns: Vec<&str> = metadata.schema().get_fields().iter().map(|field| field.name()).collect();
    let layout = Layout::of_parquet(task, &columns, path)?;
    let names = stored_names(task, metadata.key_value_metadata(), path)?;
    let index = columns.iter().position(|name| *name == INDEX);
    let (mut examples, mut last) = (Vec::new(), None);
    for row in reader.get_row_iter(None).map_err(damaged)? {
        let fields: Vec<Field> = row.map_err(damaged)?.into_columns().into_iter().map(|(_, field)| field).collect();
        let place = Place { path, line: examples.len() + 1 };
        if let Some(index) = index {
            last = Some(growing(&fields[index], last, &place)?);
        }
        let text = layout.text.iter().map(|&at| text(&fields[at], &place)).collect::<Result<Vec<String>>>()?;
        let taken = size_of::<Example>() + text.iter().map(String::len).sum::<usize>();
        left = left.checked_sub(taken as u64).ok_or_else(|| {
            corrupt(path, "parquet", format!("its rows hold far more than its {size} bytes, which text never does"))
        })?;
        let label = label(&task.labels, &named(&fields[layout.label], names.as_deref()), &place)?;
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
fn stored_names(task: &Task, metadata: Option<&Vec<KeyValue>>, path: &Path) -> Result<Option<Vec<String>>> {
    let Labels::Classes(ours) = task.labels else { return Ok(None) };
    let stored = metadata.into_iter().flatten().find(|entry| entry.key == "huggingface");
    let stored = stored.and_then(|entry| serde_json::from_str::<Value>(entry.value.as_deref()?).ok());
    let Some(names) = stored.as_ref().and_then(|info| info["info"]["features"][LABEL]["names"].as_array()) else {
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
            help: "Check that it is this task's file".into(),
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

impl Layout {
    fn of_tsv(task: &Task, header: &[&str], columns: usize, path: &Path) -> Result<Self> {
        let at = |column: &Column| match *column {
            Column::Named(name) => position(header, name, path, "TSV"),
            Column::At(position) => Ok(position),
        };
        let text = task.tsv.text.iter().map(at).collect::<Result<Vec<usize>>>()?;
        Ok(Layout { text, label: at(&task.tsv.label)?, columns })
    }

    fn of_parquet(task: &Task, columns: &[&str], path: &Path) -> Result<Self> {
        let at = |name: &&str| position(columns, name, path, "parquet");
        let text = task.parquet_text.iter().map(at).collect::<Result<Vec<usize>>>()?;
        Ok(Layout { text, label: at(&LABEL)?, columns: columns.len() })
    }

    fn lacks(&self, fields: &[&str]) -> bool {
        fields.len() < self.columns || fields.get(self.label).is_none_or(|label| label.is_empty())
    }
}

impl Place<'_> {
    fn error(&self, expected: String, got: String, help: &str) -> Error {
        Error::Row { path: self.path.into(), line: self.line, expected, got, help: help.into() }
    }

    fn utf8<'a>(&self, line: &'a [u8]) -> Result<&'a str> {
        std::str::from_utf8(line).map_err(|e| {
            let got = format!("byte 0x{:02x} at {}", line[e.valid_up_to()], e.valid_up_to());
            self.error("UTF-8 text".into(), got, GET_AGAIN)
        })
    }
}

fn position(columns: &[&str], name: &str, path: &Path, format: &'static str) -> Result<usize> {
    columns.iter().position(|column| *column == name).ok_or_else(|| {
        let detail = format!("it has no column '{name}', only {}", columns.join(", "));
        Error::Corrupt { path: path.into(), format, detail, help: "Check that it is this task's file".into() }
    })
}

fn example(text: impl IntoIterator<Item = String>, label: f64, row: usize) -> Example {
    let mut text = text.into_iter();
    Example { first: text.next().unwrap_or_default(), second: text.next(), label, row }
}

/// A class by its name or id, or a score within its bounds.
///
/// The Hub stores scores in 32 bits, the official files have up to 15 digits: both become the shortest decimal of the
/// 32-bit number, so that every layout gives the same rows.
fn label(labels: &Labels, text: &str, place: &Place) -> Result<f64> {
    match labels {
        Labels::Classes(names) => class(names, text, place),
        Labels::Score(low, high) => {
            let score = text.parse::<f32>().ok().and_then(|score| score.to_string().parse().ok());
            let score = score.filter(|score| (*low..=*high).contains(score));
            score.ok_or_else(|| place.error(format!("a score from {low} to {high}"), format!("'{text}'"), GET_AGAIN))
        }
    }
}

fn class(names: &[&str], text: &str, place: &Place) -> Result<f64> {
    let id = names.iter().position(|name| *name == text).or_else(|| text.parse().ok());
    id.filter(|&id| id < names.len()).map(|id| id as f64).ok_or_else(|| {
        let expected = format!("a label ({}, or 0 to {})", names.join(", "), names.len() - 1);
        place.error(expected, format!("'{text}'"), &label_help(names, text))
    })
}

fn label_help(names: &[&str], text: &str) -> String {
    if text == "-1" {
        return "-1 hides the label: this is a test set, which cannot be scored".into();
    }
    if text == "-" {
        return "- says that the annotators did not agree: GLUE leaves such rows out. Take GLUE's own file, or remove them"
            .into();
    }
    match Error::unknown("label", text, names.iter().copied()) {
        Error::Unknown { nearest: Some(nearest), .. } => format!("Did you mean '{nearest}'?"),
        _ => GET_AGAIN.into(),
    }
}

fn text(field: &Field, place: &Place) -> Result<String> {
    match field {
        Field::Str(text) => Ok(text.clone()),
        other => Err(place.error("text".into(), other.to_string(), GET_AGAIN)),
    }
}

fn growing(index: &Field, last: Option<i64>, place: &Place) -> Result<i64> {
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

/// The lines without their ends; empty ones at the end of the file are dropped. Lines may end in LF or in CR LF, and the
/// last one in nothing. `may_be_cut`: lines that a line break within a text cut short are left out anyway.
fn lines<'a>(content: &'a [u8], path: &Path, may_be_cut: bool) -> Result<Vec<&'a [u8]>> {
    let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(content);
    let mut lines = Vec::with_capacity(1 + content.iter().filter(|&&byte| byte == b'\n').count());
    lines.extend(content.split(|&byte| byte == b'\n'));
    let is_blank = |line: &&[u8]| line.is_empty() || *line == b"\r";
    let has_last_end = lines.last().is_some_and(|line| line.is_empty());
    let ended = if has_last_end || lines.len() == 1 { lines.len() } else { lines.len() - 1 };
    while lines.last().is_some_and(is_blank) {
        lines.pop();
    }
    let ended = ended.min(lines.len());
    let has_return = |line: &[u8]| line.ends_with(b"\r");
    let with = lines.iter().position(|line| has_return(line));
    let without = lines[..ended].iter().position(|line| !has_return(line));
    if let (Some(with), Some(without), false) = (with, without, may_be_cut) {
        let line = with.max(without) + 1;
        let (expected, got) = if with > without { ("LF", "CR LF") } else { ("CR LF", "LF alone") };
        let expected = format!("a line that ends in {expected} as the lines before it");
        return Err(Place { path, line }.error(expected, got.into(), "Write all line ends in one way"));
    }
    Ok(lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect())
}

fn decompressed(path: &Path) -> Result<Vec<u8>> {
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

/// What the file's name says of its compression.
fn named_format(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()? {
        "zst" => Some("zstd"),
        "gz" => Some("gzip"),
        _ => None,
    }
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: path.into(), source })
}

fn corrupt(path: &Path, format: &'static str, detail: String) -> Error {
    Error::Corrupt { path: path.into(), format, detail, help: GET_AGAIN.into() }
}
