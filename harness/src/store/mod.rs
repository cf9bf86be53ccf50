//! Runs as directories.

pub mod adapter_task;
pub mod files;
pub mod fsck;
pub mod record;
pub mod rows;
pub mod run_dir;
