//! One differentiable operation, or one in-place update, a file.

pub mod adamw;
pub mod attention;
pub mod dropout;
pub mod encoder_layer;
pub mod importance;
pub mod lora_linear;
pub mod norm;
pub mod orthogonality;
