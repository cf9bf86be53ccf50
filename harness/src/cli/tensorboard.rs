//! `rankbench tensorboard`.

use std::path::{Path, PathBuf};

use clap::Args;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::cli::stored::sweep_dir;
use crate::cli::task_files::TaskFiles;
use crate::env::output;
use crate::error::{Error, Result};
use crate::report::tensorboard::run::event_file;
use crate::store::files::write_atomically;
use crate::store::read;
use crate::store::record::Status;

/// Name of a run's event file: TensorBoard looks for `tfevents` in it.
const FILE: &str = "events.out.tfevents.rankbench";

/// `rankbench tensorboard`.
#[derive(Debug, Args)]
pub struct TensorBoard {
    /// The directory of a sweep; results where it is left out.
    #[arg(value_name = "OUT")]
    dir: Option<PathBuf>,
    /// Folder for the event files, with a folder for each run; OUT/tensorboard where it is left out.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    #[command(flatten)]
    own: TaskFiles,
}

impl TensorBoard {
    pub(super) fn run(&self) -> Result<()> {
        self.own.read()?;
        let out = sweep_dir(self.dir.as_deref().unwrap_or(Path::new("results")))?;
        let to = self.to.clone().unwrap_or_else(|| out.join("tensorboard"));
        let runs = read::run_dirs(&out.join("runs"))?;
        let written = runs.par_iter().map(|dir| write(dir, &to)).collect::<Result<Vec<bool>>>()?;
        let count = written.into_iter().filter(|is_written| *is_written).count();
        if count == 0 {
            return Err(Error::Input(format!("no run of {} has steps or evaluations to show yet", out.display())));
        }
        let shown = to.display();
        output::print(format_args!("{count} runs in {shown}; `tensorboard --logdir {shown}` shows them"));
        Ok(())
    }
}

/// Writes the event file of a run, finished or not; a run that cannot be read, or is damaged, is named and left out.
fn write(dir: &Path, to: &Path) -> Result<bool> {
    let leave_out = |reason: String| {
        output::note(format_args!("left out: {}: {reason}", dir.display()));
        Ok(false)
    };
    let (run, traces) = match (read::load(dir), read::traces(dir)) {
        (Ok(run), Ok(traces)) => (run, traces),
        (Err(error), _) | (_, Err(error)) => return leave_out(error.to_string()),
    };
    if let Status::Damaged(findings) = &run.status {
        return leave_out(findings.join("; "));
    }
    let Some(file) = event_file(&run, &traces) else { return Ok(false) };
    write_atomically(&to.join(&run.id).join(FILE), &file)?;
    Ok(true)
}
