//! Stored runs that are not as they were written, and files that cannot be read at all, which is no damage.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::store::read::load;
use crate::store::record::Status;

/// A directory below `runs` whose run is in no number.
#[derive(Debug)]
pub struct Fault {
    /// The directory.
    pub dir: PathBuf,
    /// Faults, in words.
    pub reason: String,
    /// Whether its files can be read; otherwise nothing is known of them.
    pub is_readable: bool,
    /// Whether it had `DONE` when it was read.
    pub is_finished: bool,
}

impl Fault {
    /// Name of the directory.
    pub fn id(&self) -> String {
        self.dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

/// Reads run directories on every core and gives those that are damaged.
pub fn faults(dirs: &[PathBuf]) -> Vec<Fault> {
    dirs.par_iter().filter_map(|dir| fault(dir)).collect()
}

/// Whether a directory is that of a damaged run; one that is gone is not.
pub fn is_damaged(dir: &Path) -> bool {
    dir.exists() && fault(dir).is_some()
}

fn fault(dir: &Path) -> Option<Fault> {
    let is_finished = dir.join("DONE").exists();
    let reason = match load(dir) {
        Ok(record) => match record.status {
            Status::Damaged(findings) => findings.join("; "),
            _ => return None,
        },
        Err(error) => format!("no run that can be read: {error}"),
    };
    let unreadable = unreadable(dir);
    let is_readable = unreadable.is_none();
    Some(Fault { dir: dir.to_path_buf(), reason: unreadable.unwrap_or(reason), is_readable, is_finished })
}

/// The first file of a run's directory that is there and cannot be read, with the reason: a right that lacks, a disk or network that
/// fails.
pub fn unreadable(dir: &Path) -> Option<String> {
    let said = |path: &Path, error: std::io::Error| {
        (error.kind() != ErrorKind::NotFound).then(|| format!("{} cannot be read: {error}", path.display()))
    };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => return said(dir, error),
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().find_map(|path| match path.is_dir() {
        true => unreadable(path),
        false => said(path, fs::read(path).err()?),
    })
}
