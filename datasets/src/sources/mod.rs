//! A task's rows from files: found, held against the lock, read.

mod content;
pub mod load;
pub mod lock;
pub mod read;
mod thrift;
