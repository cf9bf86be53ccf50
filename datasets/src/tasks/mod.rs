//! The registry of tasks: one file a task, one line here.

mod boolq;
mod cola;
mod mnli;
mod mrpc;
mod qnli;
mod qqp;
mod rte;
mod sst2;
mod stsb;

use crate::error::{Error, Result};
use crate::task::Task;

/// Every task: the eight of the SoRA paper's Table 1 in its order, then others.
pub static TASKS: &[&Task] = &[
    &cola::TASK,
    &sst2::TASK,
    &mrpc::TASK,
    &qqp::TASK,
    &stsb::TASK,
    &mnli::TASK,
    &qnli::TASK,
    &rte::TASK,
    &boolq::TASK,
];

/// The task of this name.
///
/// # Errors
/// [`Error::Unknown`] with the nearest name.
pub fn find(name: &str) -> Result<&'static Task> {
    let task = TASKS.iter().copied().find(|task| task.name == name);
    task.ok_or_else(|| Error::unknown("task", name, TASKS.iter().map(|task| task.name)))
}
