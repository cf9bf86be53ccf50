//! File formats of a table. To add one: one file here that implements [`Format`], and one line in [`FORMATS`].

pub mod csv;
pub mod format;
pub mod html;
pub mod latex;
pub mod markdown;
pub mod text;

use crate::report::formats::format::Format;

/// Formats that every table is written in, in the order of the files.
pub static FORMATS: &[&dyn Format] = &[&markdown::Markdown, &latex::Latex, &csv::Csv];
