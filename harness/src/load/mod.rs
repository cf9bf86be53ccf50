//! Backbones and rows, as a run reads them.

pub mod download;
pub mod inputs;
pub mod paths;
pub mod precision;
