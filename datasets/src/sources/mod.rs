//! A task's rows from files: found, held against the lock, read.

mod columns;
mod compression;
pub mod fetch;
pub mod jsonl;
mod lines;
pub mod load;
pub mod lock;
pub mod parquet;
mod pieces;
pub mod tsv;
