//! Meaning of PEFT's files: the fields of a configuration, the modules it adapts, and the names of tensors.

pub(crate) mod fields;
pub(crate) mod names;
mod pattern;
pub(crate) mod settings;
