//! Tables of the report: the trait, and a finished table.

use polars::prelude::DataFrame;

use crate::analysis::results::ResultsFrame;
use crate::error::Result;

/// One table of the report.
pub trait Table: Sync {
    /// File name without extension.
    fn name(&self) -> &'static str;
    /// Heading.
    fn title(&self) -> &'static str;
    /// Documents of the table: one a group of runs, or one in all; none where there is nothing to say.
    ///
    /// # Errors
    /// A bug only.
    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>>;
}

/// A finished table: cells as people read them, notes below, and the numbers behind them.
#[derive(Debug, Clone)]
pub struct TableDoc {
    /// Full heading, group included.
    pub title: String,
    /// Column heads; the first column is the row's label.
    pub header: Vec<String>,
    /// Rows, each as long as the header.
    pub rows: Vec<TableRow>,
    /// Notes below the table.
    pub notes: Vec<String>,
    /// The numbers, one a row, for the CSV file.
    pub data: DataFrame,
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct TableRow {
    /// Cells.
    pub cells: Vec<String>,
    /// Whether the row belongs to the one above it (published numbers).
    pub sub: bool,
}
