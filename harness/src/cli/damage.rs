//! Stored runs are read before the first step: a damaged one is named while there is still time to mend it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::env::output;
use crate::error::Result;
use crate::plan::spec::RunSpec;
use crate::store::read::{MOST_NAMED, load_each, run_dirs};
use crate::store::record::Status;

/// Ids of stored runs that are not as they were written. They count as made, and are in no number.
pub type Damaged = BTreeSet<String>;

/// Reads stored runs of `out` on every core and names the damaged ones: those of `plan`, or all of them.
///
/// # Errors
/// The folder of runs cannot be read.
pub fn find(out: &Path, plan: Option<&[RunSpec]>) -> Result<Damaged> {
    let runs = out.join("runs");
    let dirs: Vec<PathBuf> = match plan {
        Some(plan) => plan.iter().map(|spec| runs.join(spec.id())).filter(|dir| dir.is_dir()).collect(),
        None if runs.is_dir() => run_dirs(&runs)?,
        None => Vec::new(),
    };
    let found = load_each(&dirs, |run| match run.status {
        Status::Damaged(findings) => Some(findings.join("; ")),
        _ => None,
    });
    let mut damaged = Vec::new();
    for (dir, found) in dirs.iter().zip(found) {
        let reason = match found {
            Ok(None) => continue,
            Ok(Some(reason)) => reason,
            Err(error) => format!("no run that can be read: {error}"),
        };
        damaged.push((dir, reason));
    }
    say(&runs, &damaged);
    let id = |dir: &PathBuf| Some(dir.file_name()?.to_string_lossy().into_owned());
    // One that is not finished is made, whatever was left of it.
    Ok(damaged.into_iter().filter(|(dir, _)| dir.join("DONE").exists()).filter_map(|(dir, _)| id(dir)).collect())
}

fn say(runs: &Path, damaged: &[(&PathBuf, String)]) {
    if damaged.is_empty() {
        return;
    }
    for (dir, reason) in damaged.iter().take(MOST_NAMED) {
        output::note(format_args!("damaged: {}: {reason}", dir.display()));
    }
    let out = runs.parent().unwrap_or(runs).display();
    output::note(format_args!(
        "{} directories in {} are not as they were written{}: they are in no number, and everything else is made; \
         `rankbench fsck --out {out}` says what mends each",
        damaged.len(),
        runs.display(),
        if damaged.len() > MOST_NAMED { format!(", the first {MOST_NAMED} are named") } else { String::new() },
    ));
}
