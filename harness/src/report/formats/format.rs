//! The trait of a table's format.

use crate::error::Result;
use crate::report::table::TableDoc;

/// One format of a table.
pub trait Format: Sync {
    /// Extension of its files.
    fn extension(&self) -> &'static str;
    /// The documents of one table in one file.
    ///
    /// # Errors
    /// A bug only.
    fn render(&self, tables: &[TableDoc]) -> Result<String>;
}

/// Texts with something between them.
pub fn join(items: impl Iterator<Item = String>, by: &str) -> String {
    items.collect::<Vec<_>>().join(by)
}
