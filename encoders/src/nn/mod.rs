//! Parts of networks that architectures share.

pub(crate) mod dims;
pub(crate) mod distances;
pub(crate) mod embeddings;
pub(crate) mod fused_linear;
pub mod head;
pub(crate) mod layer;
pub(crate) mod mask;
pub mod modules;
pub(crate) mod post_norm;
