//! Everything in a store that is not as it should be, and what mends it.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use crate::error::{Error, Result};
use crate::store::damage::unreadable;
use crate::store::files::{PARTIAL, read_json, write_atomically};
use crate::store::fsck::{Flaw, check};
use crate::store::lease::{self, Claim, PREFIX, Watch};
use crate::store::leased_run::CHECKPOINT;
use crate::store::read::load;
use crate::store::record::{RunRecord, Status};
use crate::store::rows::Outcome;
use crate::store::sums::sums;

/// Repair of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mend {
    /// The directory takes the name of the run in it.
    Rename(PathBuf),
    /// `DONE` gets the sums of the files as they are.
    WriteSums,
    /// These go, and with them nothing that cannot be made again.
    Remove(Vec<PathBuf>),
    /// Nothing that this program may do.
    ByHand,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Directory of the run.
    pub dir: PathBuf,
    /// Faults, in words.
    pub reasons: Vec<String>,
    /// Whether the run is in no number for it; leftovers do no harm.
    pub is_damage: bool,
    /// Its repair.
    pub mend: Mend,
}

/// Findings about a directory below `runs`, and its status where it is a run.
pub fn inspect(dir: &Path) -> (Option<Status>, Vec<Finding>) {
    let damage = |reasons: Vec<String>, mend| Finding { dir: dir.to_path_buf(), reasons, is_damage: true, mend };
    // What cannot be read may be whole: nothing is deleted for it.
    let whole_dir = || if unreadable(dir).is_some() { Mend::ByHand } else { Mend::Remove(vec![dir.to_path_buf()]) };
    match load(dir) {
        Err(error) => {
            // A directory without a run.toml is someone else's.
            let mend = if dir.join("run.toml").exists() { whole_dir() } else { Mend::ByHand };
            (None, vec![damage(vec![format!("no run that can be read: {error}")], mend)])
        }
        Ok(record) => {
            let mut findings = leftovers(dir);
            if let Status::Damaged(reasons) = &record.status {
                findings.insert(0, damage(reasons.clone(), adoption(dir, &record).unwrap_or_else(whole_dir)));
            }
            (Some(record.status), findings)
        }
    }
}

/// Repair that makes a damaged run a whole one, where nothing but its name or its sums is wrong.
fn adoption(dir: &Path, record: &RunRecord) -> Option<Mend> {
    let outcome: Outcome = read_json(&dir.join("outcome.json")).ok()?;
    match check(dir, record, &outcome).as_slice() {
        [Flaw::NoSums] => Some(Mend::WriteSums),
        [Flaw::OtherName(id)] => Some(dir.with_file_name(id)).filter(|own| !own.exists()).map(Mend::Rename),
        _ => None,
    }
}

/// Files that a process left behind which was killed.
fn leftovers(dir: &Path) -> Vec<Finding> {
    let finding = |reason: &str, files: Vec<PathBuf>| Finding {
        dir: dir.to_path_buf(),
        reasons: vec![reason.to_string()],
        is_damage: false,
        mend: Mend::Remove(files),
    };
    let names = |of: &Path| fs::read_dir(of).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_partial = |path: &PathBuf| path.to_string_lossy().ends_with(PARTIAL);
    let is_at_work = lease::look(dir).is_ok_and(|seen| seen.is_some_and(|seen| !seen.is_free()));
    if is_at_work {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let partial: Vec<PathBuf> = names(dir).chain(names(&dir.join("adapter"))).filter(is_partial).collect();
    if !partial.is_empty() {
        findings.push(finding("half-written files of a process that was killed", partial));
    }
    let checkpoint = dir.join(CHECKPOINT);
    if dir.join("DONE").exists() {
        let is_lease = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
        let left: Vec<PathBuf> = names(dir).filter(|path| is_lease(path) || *path == checkpoint).collect();
        if !left.is_empty() {
            findings.push(finding("a lease or checkpoint of a run that is finished", left));
        }
    } else if let Err(error) = checkpoint_format(&checkpoint) {
        findings.push(finding(&format!("{CHECKPOINT} cannot be used: {error}; the run starts anew"), vec![checkpoint]));
    }
    findings
}

/// Whether a checkpoint that is there is whole, as far as that is seen without its run.
fn checkpoint_format(path: &Path) -> std::result::Result<(), String> {
    match fs::read(path) {
        Ok(bytes) => SafeTensors::deserialize(&bytes).map(|_| ()).map_err(|e| e.to_string()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e.to_string()),
    }
}

/// Mends a finding, unless a process makes the run.
///
/// # Errors
/// A process makes the run; a file that cannot be changed.
pub fn mend(finding: &Finding) -> Result<()> {
    let dir = &finding.dir;
    let lease = match lease::claim(dir, &Watch::default())? {
        Claim::Mine(lease) => lease,
        Claim::Other(holder) => {
            return Err(Error::Usage(format!("{}: {holder} makes this run; stop it first", dir.display())));
        }
    };
    match &finding.mend {
        Mend::Rename(own) => {
            // The lease's file would move with the directory.
            drop(lease);
            fs::rename(dir, own).map_err(|e| Error::output(own, e))
        }
        Mend::WriteSums => write_atomically(&dir.join("DONE"), sums(dir)?.as_bytes()),
        Mend::Remove(paths) => paths.iter().try_for_each(|path| {
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.or_else(|e| if path.exists() { Err(Error::output(path, e)) } else { Ok(()) })
        }),
        Mend::ByHand => Ok(()),
    }
}
