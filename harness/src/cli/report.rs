//! `rankbench report`.

use std::path::PathBuf;

use clap::Args;

use super::shared::width;
use crate::error::{Error, Result};
use crate::{report, store};

/// `rankbench report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The directory of a sweep: its `runs` (and `timings.csv`, where there is one) are read.
    #[arg(long, default_value = "results", value_name = "OUT")]
    out: PathBuf,
}

impl Report {
    pub(super) fn run(&self) -> Result<()> {
        let runs = store::load_all(&self.out.join("runs"))?;
        let timings = self.out.join("timings.csv");
        let timings = if timings.exists() { report::read_timings(&timings)? } else { Vec::new() };
        if runs.is_empty() && timings.is_empty() {
            return Err(Error::Input(format!("{} holds no run; `rankbench run` makes some", self.out.display())));
        }
        let paths = report::write(&runs, &timings, &self.out.join("report"))?;
        println!("{}\nReport: {}", paths.text(&[], width()), paths.html.display());
        Ok(())
    }
}
