//! PEFT's files: reading, writing and merging of adapters, the fields of a configuration, the names of tensors.

pub mod export;
pub(crate) mod fields;
pub mod import;
pub mod merge;
pub(crate) mod names;
mod pattern;
pub(crate) mod settings;
