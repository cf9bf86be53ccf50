//! Reading of checkpoints: safetensors and pickles, whole or in shards.

pub(crate) mod content;
pub mod file;
mod pickle;
pub mod reader;
