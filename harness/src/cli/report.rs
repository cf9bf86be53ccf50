//! `rankbench report`.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::Args;

use crate::cli::stored::{ReportFlags, sweep_dir};
use crate::cli::task_files::TaskFiles;
use crate::error::{Error, Result};

/// `rankbench report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The directory of a sweep: all of its `runs` (and `timings.csv`, where there is one) are read; results where it is left out.
    #[arg(value_name = "OUT")]
    dir: Option<PathBuf>,
    /// The same as a flag.
    #[arg(long, value_name = "OUT", conflicts_with = "dir")]
    out: Option<PathBuf>,
    #[command(flatten)]
    report: ReportFlags,
    #[command(flatten)]
    own: TaskFiles,
}

impl Report {
    pub(super) fn run(&self) -> Result<()> {
        self.own.read()?;
        let out = sweep_dir(self.dir.as_ref().or(self.out.as_ref()).map_or(Path::new("results"), PathBuf::as_path))?;
        // A signal ends this command as any other program: it changes nothing before the report is whole.
        let stop = AtomicBool::new(false);
        let frame = self.report.frame(&out, &[], false, &stop)?;
        if frame.runs.is_empty() && frame.timings.is_empty() {
            return Err(Error::Input(format!("{} holds no run; `rankbench run` makes some", out.display())));
        }
        self.report.print(&self.report.write(&frame, &out, &stop)?, &[])
    }
}
