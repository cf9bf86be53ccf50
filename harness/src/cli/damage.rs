//! Damaged runs of a store, told before the first step while there is still time to mend them.

use std::collections::BTreeSet;
use std::path::Path;

use crate::env::output;
use crate::error::Result;
use crate::plan::spec::RunSpec;
use crate::store::damage::{Fault, faults, is_damaged};
use crate::store::read::{MOST_NAMED, run_dirs};

/// Ids of stored runs that are not as they were written, or cannot be read. They count as made, and are in no number.
pub type Damaged = BTreeSet<String>;

/// Reads stored runs of `out` on every core and names the damaged ones: those of `plan`, or all of them.
///
/// # Errors
/// The folder of runs cannot be read.
pub fn find(out: &Path, plan: Option<&[RunSpec]>) -> Result<Damaged> {
    let runs = out.join("runs");
    let dirs = match plan {
        Some(plan) => plan.iter().map(|spec| runs.join(spec.id())).filter(|dir| dir.is_dir()).collect(),
        None if runs.is_dir() => run_dirs(&runs)?,
        None => Vec::new(),
    };
    let found = faults(&dirs);
    say(&runs, &found);
    // One that is not finished is made, whatever was left of it.
    Ok(found.into_iter().filter(|fault| fault.is_finished).map(|fault| fault.id()).collect())
}

/// Number of runs of a plan, given by their ids, that were found damaged and still are: the others were mended meanwhile.
pub fn count(out: &Path, damaged: &Damaged, plan: impl Iterator<Item = String>) -> usize {
    plan.filter(|id| damaged.contains(id) && is_damaged(&out.join("runs").join(id))).count()
}

fn say(runs: &Path, found: &[Fault]) {
    if found.is_empty() {
        return;
    }
    for Fault { dir, reason, is_readable, .. } in found.iter().take(MOST_NAMED) {
        let word = if *is_readable { "damaged" } else { "cannot be read" };
        output::note(format_args!("{word}: {}: {reason}", dir.display()));
    }
    let out = runs.parent().unwrap_or(runs).display();
    output::note(format_args!(
        "{} directories in {} are not as they were written, or cannot be read{}: they are in no number, and everything else is made; \
         `rankbench fsck --out {out}` says what mends each",
        found.len(),
        runs.display(),
        if found.len() > MOST_NAMED { format!(", the first {MOST_NAMED} are named") } else { String::new() },
    ));
}
