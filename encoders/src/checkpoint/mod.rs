//! Files of a checkpoint: safetensors and pickles, whole or in shards.

pub(crate) mod claims;
pub(crate) mod content;
pub mod file;
mod pickle;
pub mod reader;
pub mod write;
