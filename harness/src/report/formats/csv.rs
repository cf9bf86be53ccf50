//! Tables as CSV: the numbers behind them.

use crate::analysis::frame::typed::{CsvText, internal};
use crate::error::Result;
use crate::report::formats::format::Format;
use crate::report::table::TableDoc;

/// CSV, the documents of a table below each other.
pub struct Csv;

impl Format for Csv {
    fn extension(&self) -> &'static str {
        "csv"
    }

    fn render(&self, tables: &[TableDoc]) -> Result<String> {
        let mut text = CsvText::default();
        tables.iter().try_for_each(|table| text.push(&table.data))?;
        String::from_utf8(text.finish()?).map_err(internal)
    }
}
