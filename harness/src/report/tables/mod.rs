//! Tables. To add one: one file here that implements [`Table`], and one line in [`TABLES`].

pub mod cells;
mod cost;
mod efficiency;
mod footnotes;
mod paired;
mod table1;
mod table1_notes;

use crate::report::table::Table;

/// Every table, in the order of the report.
pub static TABLES: &[&dyn Table] = &[&table1::Table1, &paired::Paired, &efficiency::Efficiency, &cost::Cost];
