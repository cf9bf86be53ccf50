//! PEFT's files: formats of adapters, the fields of a configuration, the names of tensors.

pub mod config;
pub(crate) mod fields;
pub mod files;
pub mod format;
pub mod low_rank;
pub(crate) mod names;
mod pattern;
pub(crate) mod settings;
