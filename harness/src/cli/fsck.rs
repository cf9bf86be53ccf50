//! `rankbench fsck`: what of a store is not as it was written, and the mending of it.

use std::path::{Path, PathBuf};

use clap::Args;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

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
    #[arg(long, default_value = "results", value_name = "OUT")]
    out: PathBuf,
    /// Take a run whose numbers agree with its predictions as its own: one that was renamed, or that has no sums.
    #[arg(long)]
    adopt: bool,
    /// Delete damaged runs, to have them made again, and files that killed processes left.
    #[arg(long)]
    remove: bool,
}

impl Fsck {
    pub(super) fn run(&self) -> Result<()> {
        let runs = self.out.join("runs");
        let (mut counts, mut open) = ([0; 3], 0);
        let dirs = run_dirs(&runs)?;
        let inspected: Vec<_> = dirs.par_iter().map(|dir| inspect(dir)).collect();
        for (dir, (status, findings)) in dirs.iter().zip(inspected) {
            match status {
                Some(Status::Done(_)) => counts[0] += 1,
                Some(Status::Failed(_)) => counts[1] += 1,
                Some(Status::Unfinished) => counts[2] += 1,
                Some(Status::Damaged(_)) | None => {}
            }
            say_holder(dir)?;
            for finding in findings {
                let is_mended = self.treat(&finding)?;
                open += usize::from(finding.is_damage && !is_mended);
            }
        }
        let [done, failed, unfinished] = counts;
        output::print(format_args!(
            "{done} runs are whole, {failed} failed, {unfinished} are unfinished, {open} do not agree"
        ));
        match open {
            0 => Ok(()),
            open => Err(Error::Input(format!(
                "{open} of the directories in {} are not as they were written",
                runs.display()
            ))),
        }
    }

    /// Says a finding and mends it where that was asked for. Gives whether it is mended.
    fn treat(&self, finding: &Finding) -> Result<bool> {
        output::print(finding.dir.display());
        finding.reasons.iter().for_each(|reason| output::print(format_args!("  {reason}")));
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
            Mend::ByHand => (false, "move it away, it is none of this program's".into(), String::new()),
        };
        if is_wanted {
            mend(finding)?;
        }
        output::print(format_args!("  {}", if is_wanted { done } else { would }));
        Ok(is_wanted)
    }
}

/// Says who makes a run.
fn say_holder(dir: &Path) -> Result<()> {
    if let RunState::Running(running) = state(dir)? {
        output::print(format_args!("{}: {} makes it", dir.display(), running.holder));
    }
    Ok(())
}

fn names(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}
