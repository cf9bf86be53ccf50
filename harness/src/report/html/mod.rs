//! The report as a page.

pub mod page;
