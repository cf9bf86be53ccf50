//! GLUE and the synthetic micro-GLUE: tasks, rows, splits, tokens, batches and metrics.
//!
//! The way of the data is one direction: [`task`] says what a task is (built in: [`tasks`]; a user's own: [`task_file`]),
//! [`sources`] reads its rows,
//! [`split`] divides them, [`tokenizer`] turns text into ids, [`batch`] lays ids out for the encoder and
//! [`metrics`] scores what comes back. Nothing here knows tensors, encoders or methods.

pub mod backbones;
pub mod batch;
pub mod dataset;
pub mod error;
pub mod hub;
pub mod lines;
pub mod metrics;
pub mod micro;
pub mod permutation;
pub mod sources;
pub mod split;
pub mod task;
pub mod task_file;
pub mod tasks;
pub mod tokenizer;

pub use dataset::Example;
pub use error::{Error, Result};
pub use task::{Labels, SetSpec, Task};
