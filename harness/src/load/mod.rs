//! Backbones and rows, as a run reads them.

pub mod backbone;
pub mod download;
pub mod paths;
pub mod precision;
pub mod predictions;
pub mod task_data;
