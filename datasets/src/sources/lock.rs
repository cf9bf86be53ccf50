//! The lock: which bytes every user of GLUE has, from `lock.toml` beside this crate's sources.
//!
//! A number is only comparable when the rows are the same. The sizes are those of [`Task`]; the lock adds checksums
//! where they are known.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::dataset::{ParsedFile, Set, set_checksum};
use crate::error::{Error, Result};
use crate::task::Task;

const LOCK: &str = include_str!("../../lock.toml");
const HELP: &str = "Download it again, or pass --allow-unlocked to use it as it is";

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// The official download's tab-separated text.
    Tsv,
    /// The Hub's parquet.
    Parquet,
}

/// What is known of one set, each in hexadecimal.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedFile {
    /// SHA-256 of the uncompressed TSV file.
    tsv: Option<String>,
    /// SHA-256 of the parquet file.
    parquet: Option<String>,
    /// Checksum of the rows themselves, for a layout whose file's is not known.
    rows: Option<String>,
}

/// Holds a file that was read against the lock: its number of rows, and its checksum where that is known.
///
/// # Errors
/// [`Error::Lock`] with the first difference.
pub fn check(task: &Task, set: Set, layout: FileFormat, path: &Path, read: &ParsedFile) -> Result<()> {
    let differs = |field, expected: String, got: String| {
        Err(Error::Lock { path: path.into(), field, expected, got, help: HELP.into() })
    };
    let (expected, got) = (set.rows(task), read.examples.len());
    if expected != got {
        return differs("number of rows", expected.to_string(), got.to_string());
    }
    let entry = entry(task.name, set.name())?;
    let of_file = match layout {
        FileFormat::Tsv => entry.tsv,
        FileFormat::Parquet => entry.parquet,
    };
    match (of_file, entry.rows) {
        (Some(expected), _) if expected != read.sha256 => differs("sha256", expected, read.sha256.clone()),
        (None, Some(expected)) if expected != set_checksum(set.name(), &read.examples) => {
            differs("sha256 of the rows", expected, set_checksum(set.name(), &read.examples))
        }
        _ => Ok(()),
    }
}

/// sha256 of the Hub's parquet file of a set, where it is known.
///
/// # Errors
/// A broken build.
pub fn parquet_sum(task: &Task, set: Set) -> Result<Option<String>> {
    Ok(entry(task.name, set.name())?.parquet)
}

fn entry(task: &str, set: &str) -> Result<LockedFile> {
    let lock: BTreeMap<String, BTreeMap<String, LockedFile>> = toml::from_str(LOCK).map_err(|e| Error::Corrupt {
        path: "datasets/lock.toml".into(),
        format: "the lock",
        detail: e.to_string(),
        help: "This build is broken: please report it".into(),
    })?;
    Ok(lock.get(task).and_then(|sets| sets.get(set)).cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::TASKS;

    /// Every entry belongs to a set, every set has its parquet sum, and every sum is one.
    #[test]
    fn lock_holds_every_set_and_nothing_else() {
        let lock: BTreeMap<String, BTreeMap<String, LockedFile>> = toml::from_str(LOCK).unwrap();
        assert_eq!(lock.len(), TASKS.len());
        for task in TASKS {
            let sets: Vec<&str> =
                [Set::Train].into_iter().chain(task.dev_sets.iter().map(Set::Dev)).map(Set::name).collect();
            let locked = &lock[task.name];
            assert_eq!(locked.len(), sets.len(), "{}", task.name);
            for set in sets {
                let entry = &locked[set];
                assert!(entry.parquet.is_some(), "{} {set}", task.name);
                for sum in [&entry.tsv, &entry.parquet, &entry.rows].into_iter().flatten() {
                    assert_eq!(hex::decode(sum).unwrap().len(), 32, "{} {set}", task.name);
                }
            }
        }
    }
}
