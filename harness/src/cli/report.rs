//! `rankbench report`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::analysis::frame::predictions::TestSets;
use crate::analysis::results::{ReadRun, ResultsFrame};
use crate::analysis::verdict;
use crate::cli::job::width;
use crate::cli::task_files::TaskFiles;
use crate::env::output;
use crate::error::{Error, Result};
use crate::report::write;
use crate::store::read;
use crate::store::rows::PeerRound;

/// Flags of every command that writes a report.
#[derive(Debug, Clone, Args)]
pub struct ReportFlags {
    /// Least margin of equivalence of the verdicts, in points; a cell's is never below two test examples.
    #[arg(long, value_name = "POINTS", default_value_t = verdict::MARGIN, value_parser = margin)]
    pub margin: f64,
    /// Rounds of the peers, as `just compare-peers` writes them; OUT/peer_rounds.csv where it is there.
    #[arg(long, value_name = "CSV")]
    pub peers: Option<PathBuf>,
}

fn margin(text: &str) -> std::result::Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number of points".to_string())?;
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err("expected a finite number above 0".into()) }
}

impl ReportFlags {
    /// The peers' rounds that a flag names, or that lie in `out`.
    ///
    /// # Errors
    /// A file that is named and missing, or damaged.
    pub fn peers(&self, out: &Path) -> Result<Vec<PeerRound>> {
        let usual = out.join("peer_rounds.csv");
        match &self.peers {
            Some(path) => write::read_peers(path),
            None if usual.is_file() => write::read_peers(&usual),
            None => Ok(Vec::new()),
        }
    }
}

/// `rankbench report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The directory of a sweep: its `runs` (and `timings.csv`, where there is one) are read.
    #[arg(long, default_value = "results", value_name = "OUT")]
    out: PathBuf,
    #[command(flatten)]
    report: ReportFlags,
    #[command(flatten)]
    own: TaskFiles,
}

impl Report {
    pub(super) fn run(&self) -> Result<()> {
        self.own.read()?;
        let timings = self.out.join("timings.csv");
        let timings = if timings.exists() { write::read_timings(&timings)? } else { Vec::new() };
        // A directory with timings alone has a report, too.
        let runs = self.out.join("runs");
        let known = TestSets::default();
        let of = |run| ReadRun::of(&run, &known);
        let (runs, others) =
            if runs.is_dir() || timings.is_empty() { read::load_all(&runs, of)? } else { Default::default() };
        if runs.is_empty() && timings.is_empty() {
            return Err(Error::Input(format!("{} holds no run; `rankbench run` makes some", self.out.display())));
        }
        for (path, reason) in &others {
            output::note(format_args!("left out: {} is no run that can be read: {reason}", path.display()));
        }
        say_damaged(&runs);
        let peers = self.report.peers(&self.out)?;
        let frame = ResultsFrame { timings, peers, margin: self.report.margin, ..ResultsFrame::of_runs(runs) };
        let paths = write::write(&frame, &self.out.join("report"))?;
        output::print(format_args!("{}\nReport: {}", paths.text(&[], width())?, paths.html.display()));
        Ok(())
    }
}

/// Names the runs whose files do not agree; they are in no number of the report.
fn say_damaged(runs: &[ReadRun]) {
    for row in runs.iter().map(|run| &run.result().row).filter(|row| row.status == "damaged") {
        output::note(format_args!("left out: {}: {}", row.run, row.failure.trim_start_matches("damaged: ")));
    }
}
