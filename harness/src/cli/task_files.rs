//! `--task-file`: tasks of the user's own (docs/own_task.md).

use std::path::PathBuf;

use clap::Args;

use crate::error::Result;

/// Tasks from files.
#[derive(Debug, Clone, Args)]
pub struct TaskFiles {
    /// A TOML file that describes a task of one's own, which --tasks may then name; may be given several times
    /// (docs/own_task.md).
    #[arg(long, value_name = "FILE")]
    task_file: Vec<PathBuf>,
}

impl TaskFiles {
    /// Makes the tasks known by their names.
    ///
    /// # Errors
    /// A file that is no task, or a name that is taken.
    pub fn read(&self) -> Result<()> {
        self.task_file.iter().try_for_each(|path| Ok(datasets::task_file::read(path).map(drop)?))
    }
}
