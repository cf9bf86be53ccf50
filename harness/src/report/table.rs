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
    /// Rows of cells, each as long as the header.
    pub rows: Vec<Vec<String>>,
    /// Notes below the table.
    pub notes: Vec<String>,
    /// The numbers, one a row, for the CSV file.
    pub data: DataFrame,
}
