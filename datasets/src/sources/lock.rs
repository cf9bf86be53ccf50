//! The lock: which bytes every user of a task has, from `lock.toml` beside this crate's sources.
//!
//! A number is only comparable when the rows are the same. The sizes are those of [`Task`]; the lock adds checksums
//! where they are known.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::dataset::{ParsedFile, set_checksum};
use crate::error::{Error, Result};
use crate::task::{FileFormat, SetSpec, Task};

const LOCK: &str = include_str!("../../lock.toml");
const HELP: &str = "Download it again, or pass --allow-unlocked to use it as it is";
const UNCHECKED_HELP: &str = "Its number of rows is right, and nothing more is known here. Pass --allow-unlocked to use it as \
                              it is; results say so";

/// Sums of one set's files, each in hexadecimal.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedFile {
    /// SHA-256 of the uncompressed TSV file.
    tsv: Option<String>,
    /// SHA-256 of the uncompressed JSONL file.
    jsonl: Option<String>,
    /// SHA-256 of the parquet file.
    parquet: Option<String>,
    /// Checksum of the rows themselves, for a layout whose file's is not known.
    rows: Option<String>,
    /// Number of rows of a set of which no checksum at all is known: such a file never counts as locked.
    unchecked_rows: Option<usize>,
}

impl LockedFile {
    fn of_file(&self, format: FileFormat) -> Option<&String> {
        match format {
            FileFormat::Tsv { .. } => self.tsv.as_ref(),
            FileFormat::Jsonl => self.jsonl.as_ref(),
            FileFormat::Parquet => self.parquet.as_ref(),
        }
    }
}

/// Holds a file that was read against the lock: its number of rows, and its checksum where that is known.
///
/// # Errors
/// [`Error::Lock`] with the first difference; for a set of which no checksum is known, always.
pub fn check(task: &Task, set: &SetSpec, format: FileFormat, path: &Path, read: &ParsedFile) -> Result<()> {
    let error = |field, expected: String, got: String, help: &str| {
        Err(Error::Lock { path: path.into(), field, expected, got, help: help.into() })
    };
    let differs = |field, expected, got| error(field, expected, got, HELP);
    let got = read.examples.len();
    if let Some(expected) = set.rows.filter(|expected| *expected != got) {
        return differs("number of rows", expected.to_string(), got.to_string());
    }
    let entry = entry(task.name, set.name)?;
    if entry.unchecked_rows.is_some() {
        let expected = "a known checksum, and none is known".to_string();
        return error("sha256", expected, format!("{}, not checked", read.sha256), UNCHECKED_HELP);
    }
    match (entry.of_file(format), &entry.rows) {
        (Some(expected), _) if *expected != read.sha256 => differs("sha256", expected.clone(), read.sha256.clone()),
        (None, Some(expected)) if *expected != set_checksum(set.name, &read.examples) => {
            differs("sha256 of the rows", expected.clone(), set_checksum(set.name, &read.examples))
        }
        _ => Ok(()),
    }
}

/// sha256 of the file of a set in one format, where it is known.
///
/// # Errors
/// A broken build.
pub(crate) fn file_sum(task: &Task, set: &SetSpec, format: FileFormat) -> Result<Option<String>> {
    Ok(entry(task.name, set.name)?.of_file(format).cloned())
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

    /// Every entry belongs to a set, and every sum is one. A set has the sum of its file on the Hub, or no sum at all and the
    /// number of its rows.
    #[test]
    fn lock_holds_every_set_and_nothing_else() {
        let lock: BTreeMap<String, BTreeMap<String, LockedFile>> = toml::from_str(LOCK).unwrap();
        assert_eq!(lock.len(), TASKS.len());
        for task in TASKS {
            let locked = &lock[task.name];
            assert_eq!(locked.len(), task.sets.len(), "{}", task.name);
            for set in task.sets {
                let place = format!("{} {}", task.name, set.name);
                let entry = &locked[set.name];
                let sums = [&entry.tsv, &entry.jsonl, &entry.parquet, &entry.rows].into_iter().flatten();
                match entry.unchecked_rows {
                    Some(rows) => assert_eq!((Some(rows), sums.count()), (set.rows, 0), "{place}"),
                    None => {
                        assert!(entry.parquet.is_some(), "{place}");
                        sums.for_each(|sum| assert_eq!(hex::decode(sum).unwrap().len(), 32, "{place}"));
                    }
                }
            }
        }
    }
}
