//! The report as a page.

pub mod data;
pub mod figure;
pub mod keys;
pub mod made;
pub mod page;
pub mod paired_cells;
pub mod run_columns;
