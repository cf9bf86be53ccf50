//! Documents from numbers.

pub mod figures;
pub mod formats;
pub mod plot;
pub mod tables;
pub mod write;
