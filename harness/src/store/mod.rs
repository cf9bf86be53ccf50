//! Runs as directories.

pub mod files;
pub mod fsck;
pub mod read;
pub mod record;
pub mod rows;
pub mod run_dir;
pub mod sums;
