//! Parts that architectures share.

pub mod head;
pub mod parts;
