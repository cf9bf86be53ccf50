//! The rankbench binary as a library. Folders are the stages of the data's way: plan, load, train, store, analysis, report.
// Both panic where they cannot write: everything is printed by env::output.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod analysis;
pub mod cli;
pub mod env;
pub mod error;
pub mod launch;
pub mod load;
pub mod plan;
pub mod report;
pub mod store;
pub mod train;
