//! One file a method, and the options that methods have in common.

pub mod adalora;
pub mod base_weights;
pub mod bitfit;
pub mod bottleneck;
pub mod branch_options;
pub mod dora;
pub mod dylora;
pub mod full;
pub mod lora;
pub mod sora;
