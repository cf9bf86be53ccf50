//! Data of a report, as every command that writes one reads them.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use crate::analysis::frame::predictions::TestSets;
use crate::analysis::frame::read::read_results;
use crate::analysis::results::{ReadRun, ResultsFrame};
use crate::analysis::traces;
use crate::analysis::verdict;
use crate::cli::job::width;
use crate::env::output;
use crate::error::{Error, Result};
use crate::report::write::{self, ReportPaths};
use crate::store::read;
use crate::store::record::RunRecord;
use crate::store::rows::PeerRound;

/// Id of a run, and the label that a plan gives it; `None` where the stored one stays.
pub type Labelled = (String, Option<String>);

/// Flags of every command that writes a report.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Report")]
pub struct ReportFlags {
    /// Least margin of equivalence of the verdicts, in points; a cell's is never below two test examples.
    #[arg(long, value_name = "POINTS", default_value_t = verdict::MARGIN, value_parser = margin)]
    pub margin: f64,
    /// Rounds of the peers, as `just compare-peers` writes them; OUT/peer_rounds.csv where it is there.
    #[arg(long, value_name = "CSV")]
    pub peers: Option<PathBuf>,
    /// Write the figures' files without heading and notes, for a paper's own caption.
    #[arg(long)]
    pub bare: bool,
    /// Print the tables as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `--margin`: a number of points above 0.
pub fn margin(text: &str) -> std::result::Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number of points".to_string())?;
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err("expected a finite number above 0".into()) }
}

impl ReportFlags {
    /// The peers' rounds that a flag names, or that lie in `out`.
    fn peers(&self, out: &Path) -> Result<Vec<PeerRound>> {
        let usual = out.join("peer_rounds.csv");
        match &self.peers {
            Some(path) => write::read_peers(path),
            None if usual.is_file() => write::read_peers(&usual),
            None => Ok(Vec::new()),
        }
    }

    /// Writes the report of a frame to `out`.
    ///
    /// # Errors
    /// As [`write::write`]; a stop signal before it is whole.
    pub fn write(&self, frame: &ResultsFrame, out: &Path, stop: &AtomicBool) -> Result<ReportPaths> {
        write::write_unless_stopped(frame, &out.join("report"), self.bare, stop)
    }

    /// Prints tables of a report; every table when `names` is empty.
    ///
    /// # Errors
    /// A bug only.
    pub fn print(&self, paths: &ReportPaths, names: &[&str]) -> Result<()> {
        if self.json {
            output::print(format_args!("{:#}", paths.json(names)));
            return Ok(());
        }
        output::print(paths.text(names, width())?);
        output::print(format_args!("Report: {}", paths.html.display()));
        Ok(())
    }

    /// Everything stored in `out`: its timings, the peers' rounds and its runs, those of a plan first and in its order; with `only_plan`
    /// no others. Directories that are no run, and damaged runs, are named.
    ///
    /// # Errors
    /// A damaged file of timings or rounds; a folder of runs that cannot be read; a stop signal.
    pub fn frame(&self, out: &Path, plan: &[Labelled], only_plan: bool, stop: &AtomicBool) -> Result<ResultsFrame> {
        let mut frame = self.scores(out, plan, only_plan, stop)?;
        for (run, error) in traces::read(&mut frame, &out.join("runs")) {
            output::note(format_args!("{run} has no line in the figures by step: {error}"));
        }
        Ok(frame)
    }

    /// [`ReportFlags::frame`] without steps and gates, which only figures show.
    ///
    /// # Errors
    /// As [`ReportFlags::frame`].
    pub fn scores(&self, out: &Path, plan: &[Labelled], only_plan: bool, stop: &AtomicBool) -> Result<ResultsFrame> {
        let timings = out.join("timings.csv");
        let timings = if timings.exists() { write::read_timings(&timings)? } else { Vec::new() };
        let peers = self.peers(out)?;
        let runs = runs(&out.join("runs"), plan, only_plan)?;
        if stop.load(Ordering::Relaxed) {
            return Err(Error::ReportInterrupted);
        }
        Ok(ResultsFrame { timings, peers, margin: self.margin, ..ResultsFrame::of_runs(runs) })
    }
}

/// Runs of a sweep's directory, or of a folder with the `results.csv` of a report.
///
/// # Errors
/// Neither is there; a file of another version.
pub fn results(given: &Path) -> Result<ResultsFrame> {
    let csv = given.join("results.csv");
    if csv.is_file() {
        return Ok(ResultsFrame::of_results(read_results(&csv)?));
    }
    Ok(ResultsFrame::of_runs(runs(&sweep_dir(given)?.join("runs"), &[], false)?))
}

/// Stored runs: those of a plan, then all others.
fn runs(dir: &Path, plan: &[Labelled], only_plan: bool) -> Result<Vec<ReadRun>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths: Vec<PathBuf> = plan.iter().map(|(id, _)| dir.join(id)).filter(|path| path.is_dir()).collect();
    if !only_plan {
        let planned: HashSet<PathBuf> = paths.iter().cloned().collect();
        paths.extend(read::run_dirs(dir)?.into_iter().filter(|path| !planned.contains(path)));
    }
    let labels: BTreeMap<&str, &str> =
        plan.iter().filter_map(|(id, label)| Some((id.as_str(), label.as_deref()?))).collect();
    let known = TestSets::default();
    let read = |mut run: RunRecord| {
        // The stored label may be that of another recipe, which made the run.
        if let Some((label, spec)) = labels.get(run.id.as_str()).zip(run.spec.made_mut()) {
            spec.label = label.to_string();
        }
        ReadRun::of(&run, &known)
    };
    let mut runs = Vec::new();
    for (path, run) in paths.iter().zip(read::load_each(&paths, read)) {
        match run {
            Ok(run) => runs.push(run),
            Err(error) => {
                output::note(format_args!("left out: {} is no run that can be read: {error}", path.display()));
            }
        }
    }
    say_damaged(&runs);
    Ok(runs)
}

/// Names the runs whose files do not agree; they are in no number of the report.
fn say_damaged(runs: &[ReadRun]) {
    for row in runs.iter().map(|run| &run.result().row).filter(|row| row.status == "damaged") {
        output::note(format_args!("left out: {}: {}", row.run, row.failure.trim_start_matches("damaged: ")));
    }
}

/// The directory of a run: `given` itself, or the run of the sweep in `out` with this id or the only one whose id begins so.
///
/// # Errors
/// As [`read::find_run`] and [`sweep_dir`].
pub fn run_dir(given: &str, out: &Path) -> Result<PathBuf> {
    let dir = Path::new(given);
    if dir.join("run.toml").is_file() {
        Ok(dir.to_path_buf())
    } else {
        read::find_run(&sweep_dir(out)?.join("runs"), given)
    }
}

/// The directory of a sweep that `given` means: one folder too deep or too high is recognised.
///
/// # Errors
/// A folder that holds no runs; the message says where some are.
pub fn sweep_dir(given: &Path) -> Result<PathBuf> {
    let holds = |dir: &Path| dir.join("runs").is_dir() || dir.join("timings.csv").is_file();
    if holds(given) {
        return Ok(given.to_path_buf());
    }
    // OUT/runs, a run of it, or OUT/report.
    let full = given.canonicalize().unwrap_or_else(|_| given.to_path_buf());
    let is_inside = given.join("run.toml").is_file() || given.ends_with("runs") || given.ends_with("report");
    if let Some(above) = full.ancestors().skip(1).take(2).find(|dir| is_inside && holds(dir)) {
        output::note(format_args!("{} lies inside {}, whose runs are taken", given.display(), above.display()));
        return Ok(above.to_path_buf());
    }
    let below = std::fs::read_dir(given).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut below: Vec<PathBuf> = below.filter(|dir| holds(dir)).collect();
    below.sort();
    let given = given.display();
    match below.as_slice() {
        [] => Err(Error::Input(format!("{given} holds no run: there is no {given}/runs. `rankbench run` makes some"))),
        [one] => {
            output::note(format_args!("{given} has no runs of its own: those of {} are taken", one.display()));
            Ok(one.clone())
        }
        several => {
            let names: Vec<String> = several.iter().map(|dir| dir.display().to_string()).collect();
            Err(Error::Usage(format!(
                "{given} has no runs of its own, but below it there are {}: name one",
                names.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(dir: &Path, name: &str) -> PathBuf {
        let out = dir.join(name);
        std::fs::create_dir_all(out.join("runs/rte-lora-s0-0123456789")).unwrap();
        std::fs::write(out.join("runs/rte-lora-s0-0123456789/run.toml"), "").unwrap();
        out.canonicalize().unwrap()
    }

    #[test]
    fn a_folder_too_deep_or_too_high_is_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let out = sweep(dir.path(), "mine");
        for given in ["mine", "mine/runs", "mine/runs/rte-lora-s0-0123456789", ""] {
            let found = sweep_dir(&dir.path().join(given)).unwrap();
            assert_eq!(found.canonicalize().unwrap(), out, "{given}");
        }
    }

    #[test]
    fn a_folder_without_runs_or_with_several_sweeps_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = sweep_dir(&dir.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere holds no run"), "{error}");
        sweep(dir.path(), "a");
        sweep(dir.path(), "b");
        let error = sweep_dir(dir.path()).unwrap_err().to_string();
        assert!(error.contains("/a, ") && error.contains("/b: name one"), "{error}");
    }
}
