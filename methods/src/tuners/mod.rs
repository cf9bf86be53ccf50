//! One file a method.

pub mod adalora;
pub mod base_weights;
pub mod bitfit;
pub mod bottleneck;
pub mod dora;
pub mod dylora;
pub mod full;
pub mod lora;
pub mod sora;
