//! Sums of a run's files, which `DONE` holds.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::store::files::PARTIAL;
use crate::store::lease::PREFIX;

/// Names of a run's files but `DONE`, leases and files in writing, sorted; those of its adapter with their folder.
pub fn file_names(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["", "adapter"] {
        for entry in fs::read_dir(dir.join(folder)).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_passing = name == "DONE" || name.starts_with(PREFIX) || name.ends_with(PARTIAL);
            if entry.path().is_file() && !is_passing {
                names.push(if folder.is_empty() { name } else { format!("{folder}/{name}") });
            }
        }
    }
    names.sort();
    names
}

/// sha256 and name of every file of [`file_names`], a line each, as sha256sum prints them.
///
/// # Errors
/// A file that cannot be read.
pub fn sums(dir: &Path) -> Result<String> {
    file_names(dir).iter().map(|name| Ok(format!("{}  {name}\n", sum(&dir.join(name))?))).collect()
}

/// sha256 of a file.
///
/// # Errors
/// It cannot be read.
pub fn sum(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = fs::File::open(path).map_err(|e| Error::input(path, e))?;
    std::io::copy(&mut file, &mut hash).map_err(|e| Error::input(path, e))?;
    Ok(hex::encode(hash.finalize()))
}
