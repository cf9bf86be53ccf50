//! Forms of a table.

pub mod render;
