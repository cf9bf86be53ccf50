//! Tasks of the user's own that this process has read.

use std::sync::{Mutex, PoisonError};

use crate::task::Task;

static OWN: Mutex<Vec<&'static Task>> = Mutex::new(Vec::new());

/// All of them, in the order they were read.
pub(crate) fn all() -> Vec<&'static Task> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Takes a task up, once for each file.
///
/// # Errors
/// Another file has a task of this name.
pub(crate) fn add(task: &'static Task) -> Result<&'static Task, String> {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    match own.iter().find(|known| known.name == task.name).copied() {
        Some(known) if known.file == task.file => Ok(known),
        Some(known) => {
            let other = known.file.map_or("another file", |file| file.path);
            Err(format!("the task '{}' is that of {other}, too", task.name))
        }
        None => {
            own.push(task);
            Ok(task)
        }
    }
}
