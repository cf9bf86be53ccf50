//! The registry of tasks: one file a task, one line here.

mod boolq;
mod cola;
mod mnli;
mod mrpc;
mod own;
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

/// Adds a user's own task to those that [`find`] knows.
///
/// # Errors
/// Another task has this name.
pub(crate) fn add(task: &'static Task) -> std::result::Result<&'static Task, String> {
    match TASKS.iter().find(|known| known.name == task.name) {
        Some(known) => Err(format!("the task '{}' is built in ({})", known.name, known.title)),
        None => own::add(task),
    }
}

/// The task of this name, built in or the user's own.
///
/// # Errors
/// [`Error::Unknown`] with the nearest name.
pub fn find(name: &str) -> Result<&'static Task> {
    let all: Vec<&'static Task> = TASKS.iter().copied().chain(own::all()).collect();
    let task = all.iter().copied().find(|task| task.name == name);
    task.ok_or_else(|| Error::unknown("task", name, all.iter().map(|task| task.name)))
}
