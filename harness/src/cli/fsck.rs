//! `rankbench fsck`: what of a store is not as it was written, and the mending of it.

use std::path::PathBuf;

use clap::Args;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::Serialize;
use serde_json::json;

use crate::env::output;
use crate::error::{Error, Result};
use crate::store::mend::{Finding, Mend, inspect, mend};
use crate::store::read::run_dirs;
use crate::store::record::Status;
use crate::store::survey::{RunState, state};

/// `rankbench fsck`.
#[derive(Debug, Args)]
pub struct Fsck {
    /// The directory of a sweep: its `runs` are checked.
    #[arg(default_value = "results", value_name = "OUT")]
    named: PathBuf,
    /// The same as a flag.
    #[arg(long, value_name = "OUT", conflicts_with = "named")]
    out: Option<PathBuf>,
    /// Take a run whose numbers agree with its predictions as its own: one that was renamed, or that has no sums.
    #[arg(long)]
    adopt: bool,
    /// Delete damaged runs, to have them made again, and files that killed processes left.
    #[arg(long)]
    remove: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A finding and its mending, in words.
#[derive(Debug, Serialize)]
struct Treated {
    dir: PathBuf,
    reasons: Vec<String>,
    /// Whether the run is in no number for it.
    is_damage: bool,
    is_mended: bool,
    /// Work done, or the way to have it done.
    mend: String,
}

/// A run in work.
#[derive(Debug, Serialize)]
struct InWork {
    dir: PathBuf,
    holder: String,
}

impl Fsck {
    pub(super) fn run(&self) -> Result<()> {
        let runs = self.out.as_ref().unwrap_or(&self.named).join("runs");
        let (mut counts, mut treated, mut in_work) = ([0; 3], Vec::new(), Vec::new());
        let mut not_mended = None;
        let dirs = run_dirs(&runs)?;
        let inspected: Vec<_> = dirs.par_iter().map(|dir| inspect(dir)).collect();
        for (dir, (status, findings)) in dirs.iter().zip(inspected) {
            match status {
                Some(Status::Done(_)) => counts[0] += 1,
                Some(Status::Failed(_)) => counts[1] += 1,
                Some(Status::Unfinished) => counts[2] += 1,
                Some(Status::Damaged(_)) | None => {}
            }
            if let RunState::Running(running) = state(dir)? {
                let found = InWork { dir: dir.clone(), holder: running.holder.to_string() };
                self.say(|| format!("{}: {} makes it", found.dir.display(), found.holder));
                in_work.push(found);
            }
            for finding in findings {
                let found = self.treat(finding, &mut not_mended);
                self.say(|| text(&found));
                treated.push(found);
            }
        }
        let open = treated.iter().filter(|found| found.is_damage && !found.is_mended).count();
        let [whole, failed, unfinished] = counts;
        match self.json {
            true => output::print(format_args!(
                "{:#}",
                json!({ "whole": whole, "failed": failed, "unfinished": unfinished, "do_not_agree": open,
                    "in_work": in_work, "findings": treated })
            )),
            false => output::print(format_args!(
                "{whole} runs are whole, {failed} failed, {unfinished} are unfinished, {open} do not agree"
            )),
        }
        if let Some(error) = not_mended {
            return Err(error);
        }
        match open {
            0 => Ok(()),
            open => Err(Error::Input(format!(
                "{open} of the directories in {} are not as they were written",
                runs.display()
            ))),
        }
    }

    /// Prints a text at once, but for JSON, which comes whole at the end.
    fn say(&self, text: impl FnOnce() -> String) {
        if !self.json {
            output::print(text());
        }
    }

    /// Mends a finding where that was asked for; `failed` keeps the first error of a mending.
    fn treat(&self, finding: Finding, failed: &mut Option<Error>) -> Treated {
        let (is_wanted, would, done) = match &finding.mend {
            Mend::Rename(own) => {
                // Another copy may have taken the name meanwhile.
                let is_free = self.adopt && !own.exists();
                let own = own.display();
                (is_free, format!("--adopt renames it to {own}"), format!("renamed to {own}"))
            }
            Mend::WriteSums => {
                (self.adopt, "--adopt writes the sums of its files as they are".into(), "its sums are written".into())
            }
            Mend::Remove(paths) if finding.is_damage => {
                let advice = "take the files from a copy, or delete it to have the run made again";
                (self.remove, format!("{advice} (--remove deletes it)"), format!("deleted {}", names(paths)))
            }
            Mend::Remove(paths) => {
                (self.remove, format!("--remove deletes {}", names(paths)), format!("deleted {}", names(paths)))
            }
            Mend::ByHand => (
                false,
                "make its files readable, or move it away where it is none of this program's".into(),
                String::new(),
            ),
        };
        let error = if is_wanted { mend(&finding).err() } else { None };
        let Finding { dir, reasons, is_damage, .. } = finding;
        let is_mended = is_wanted && error.is_none();
        let mend = match &error {
            Some(error) => format!("not mended: {error}"),
            None if is_wanted => done,
            None => would,
        };
        *failed = failed.take().or(error);
        Treated { dir, reasons, is_damage, is_mended, mend }
    }
}

/// A finding's directory, and below it its reasons and its mending.
fn text(found: &Treated) -> String {
    let below = found.reasons.iter().chain([&found.mend]);
    below.fold(found.dir.display().to_string(), |text, line| format!("{text}\n  {line}"))
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}
