//! Low-rank branches: one, the groups of equal shape, their counts.

pub mod counts;
pub mod lora_layer;
pub mod module_groups;
