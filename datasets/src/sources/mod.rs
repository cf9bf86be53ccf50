//! A task's rows from files: found, held against the lock, read.

pub mod load;
pub mod lock;
pub mod read;
