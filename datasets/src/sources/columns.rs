//! Columns of a row and its label, common to every format.

use std::path::Path;

use crate::dataset::Example;
use crate::error::{Error, Result, nearest};
use crate::task::{Column, Labels, Source};

pub(crate) const GET_AGAIN: &str = "Download the file again";
pub(crate) const CHECK_FILE: &str = "Check that it is this task's file";
pub(crate) const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// Position of a row.
pub(crate) struct LinePosition<'a> {
    pub path: &'a Path,
    pub line: usize,
}

/// Positions of the columns that are read.
pub(crate) struct ColumnIndex {
    pub text: Vec<usize>,
    pub label: usize,
    /// Columns of every row.
    pub count: usize,
}

impl ColumnIndex {
    /// Finds a source's columns among `names`, or takes their positions where a file of `count` columns names none.
    pub fn of(source: &Source, names: &[&str], count: usize, path: &Path) -> Result<Self> {
        let at = |column: &Column| match *column {
            Column::Named(name) => position(names, name, path, source.format.name()),
            Column::At(position) => Ok(position),
        };
        let text = source.text.iter().map(at).collect::<Result<Vec<usize>>>()?;
        Ok(ColumnIndex { text, label: at(&source.label)?, count })
    }
}

impl LinePosition<'_> {
    pub fn error(&self, expected: String, got: String, help: &str) -> Error {
        Error::Row { path: self.path.into(), line: self.line, expected, got, help: help.into() }
    }

    pub fn utf8<'a>(&self, line: &'a [u8]) -> Result<&'a str> {
        std::str::from_utf8(line).map_err(|e| {
            let got = format!("byte 0x{:02x} at {}", line[e.valid_up_to()], e.valid_up_to());
            self.error("UTF-8 text".into(), got, GET_AGAIN)
        })
    }
}

fn position(columns: &[&str], name: &str, path: &Path, format: &'static str) -> Result<usize> {
    columns.iter().position(|column| *column == name).ok_or_else(|| {
        let detail = format!("it has no column '{name}', only {}", columns.join(", "));
        Error::Corrupt { path: path.into(), format, detail, help: CHECK_FILE.into() }
    })
}

/// A row from its texts.
pub(crate) fn example(text: impl IntoIterator<Item = String>, label: f64, row: usize) -> Example {
    let mut text = text.into_iter();
    Example { first: text.next().unwrap_or_default(), second: text.next(), label, row }
}

/// A class by its name or id, or a score within its bounds.
///
/// The Hub stores scores in 32 bits, the official files have up to 15 digits: both become the shortest decimal of the
/// 32-bit number, so that every layout gives the same rows.
pub(crate) fn label(labels: &Labels, text: &str, place: &LinePosition) -> Result<f64> {
    match labels {
        Labels::Classes(names) => class(names, text, place),
        Labels::Score(low, high) => {
            let score = text.parse::<f32>().ok().and_then(|score| score.to_string().parse().ok());
            let score = score.filter(|score| (*low..=*high).contains(score));
            score.ok_or_else(|| place.error(format!("a score from {low} to {high}"), format!("'{text}'"), GET_AGAIN))
        }
    }
}

fn class(names: &[&str], text: &str, place: &LinePosition) -> Result<f64> {
    let id = names.iter().position(|name| *name == text).or_else(|| text.parse().ok());
    id.filter(|&id| id < names.len())
        .map(|id| id as f64)
        .ok_or_else(|| place.error(expected_class(names), format!("'{text}'"), &label_help(names, text)))
}

/// Classes as a message names them.
pub(crate) fn expected_class(names: &[&str]) -> String {
    format!("a label ({}, or 0 to {})", names.join(", "), names.len().saturating_sub(1))
}

fn label_help(names: &[&str], text: &str) -> String {
    if text == "-1" {
        return "-1 hides the label: this is a test set, which cannot be scored".into();
    }
    if text == "-" {
        return "- says that the annotators did not agree: GLUE leaves such rows out. Take GLUE's own file, or remove them"
            .into();
    }
    nearest(text, names.iter().copied()).map_or(GET_AGAIN.into(), |nearest| format!("Did you mean '{nearest}'?"))
}

/// Damage that getting the file again mends.
pub(crate) fn corrupt(path: &Path, format: &'static str, detail: String) -> Error {
    Error::Corrupt { path: path.into(), format, detail, help: GET_AGAIN.into() }
}
