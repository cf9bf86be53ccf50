//! Files of a checkpoint: safetensors and pickles, whole or in shards.

pub mod checksums;
pub(crate) mod claims;
pub(crate) mod content;
pub mod file;
mod pickle;
pub mod reader;
mod shards;
pub(crate) mod tensor_info;
pub mod write;
