//! Attachments: a low-rank branch, the groups of equal shape, their counts; replaced weights.

pub mod bias;
pub mod branch_options;
pub mod counts;
pub mod lora_layer;
pub mod module_groups;
pub mod pissa;
pub(crate) mod qkv;
pub mod replaced;
pub mod stacked_branches;
pub mod target_modules;
