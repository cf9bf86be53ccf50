//! Tables. To add one: one file here that implements [`Table`], and one line in [`TABLES`].

mod efficiency;
mod paired;
mod run_times;
pub mod table1;

use polars::prelude::DataFrame;

use crate::analysis::frame::Collected;
use crate::error::Result;

/// One table of the report.
pub trait Table: Sync {
    /// File name without extension.
    fn name(&self) -> &'static str;
    /// Heading.
    fn title(&self) -> &'static str;
    /// Which frame it reads; the report skips a table whose frame is empty.
    fn needs(&self) -> Needs;
    /// Builds it; `None` when the frame holds nothing for it. For [`Needs::Runs`] the frame holds one protocol only.
    ///
    /// # Errors
    /// A bug only.
    fn build(&self, collected: &Collected) -> Result<Option<Rendered>>;
}

/// What a table is built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Runs: built once for each (data source, backbone, split).
    Runs,
    /// Interleaved timings: built once.
    Timings,
}

/// Every table, in the order of the report.
pub static TABLES: &[&dyn Table] = &[&table1::Table1, &paired::Paired, &efficiency::Efficiency, &run_times::RunTimes];

/// A finished table: cells as people read them, notes below, and the numbers behind them.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// Full heading, protocol included.
    pub title: String,
    /// Column heads; the first column is the row's label.
    pub header: Vec<String>,
    /// Rows, each as long as the header.
    pub rows: Vec<GridRow>,
    /// Notes below the table.
    pub notes: Vec<String>,
    /// The numbers, one a row, for the CSV file.
    pub data: DataFrame,
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct GridRow {
    /// Cells.
    pub cells: Vec<String>,
    /// Whether the row belongs to the one above it (published numbers).
    pub sub: bool,
}

/// Name of a method in tables: the registry's title, or the name itself.
pub fn method_title(name: &str) -> String {
    let entry = methods::registry::METHODS.iter().find(|entry| entry.name == name);
    entry.map_or_else(|| name.to_string(), |entry| entry.title.to_string())
}

/// Position of a method in tables: the registry's order, unknown ones last.
pub fn method_order(name: &str) -> usize {
    let registered = methods::registry::METHODS.iter().position(|entry| entry.name == name);
    registered.unwrap_or(usize::MAX)
}

/// A parameter count: `1.327M`, `84.5k`, `912`.
pub fn count(value: f64) -> String {
    if value >= 1e6 {
        format!("{:.3}M", value / 1e6)
    } else if value >= 1e3 {
        format!("{:.1}k", value / 1e3)
    } else {
        format!("{value:.0}")
    }
}
