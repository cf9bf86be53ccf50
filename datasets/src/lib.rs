//! GLUE and the synthetic micro-GLUE: tasks, rows, splits, tokens, batches and metrics.
//!
//! The way of the data is one direction: [`task`] says what a task is, [`source`] reads its rows,
//! [`split`] divides them, [`tokenizer`] turns text into ids, [`batch`] lays ids out for the encoder and
//! [`metrics`] scores what comes back. Nothing here knows tensors, encoders or methods.

pub mod backbones;
pub mod batch;
mod content;
pub mod error;
pub mod glue;
pub mod hub;
pub mod lock;
pub mod metrics;
pub mod micro;
pub mod random;
pub mod read;
pub mod source;
pub mod split;
pub mod task;
mod thrift;
pub mod tokenizer;

pub use error::{Error, Result};
pub use task::{DevSet, Example, Labels, Task};
