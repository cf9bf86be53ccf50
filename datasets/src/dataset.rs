//! Rows of a task, and their checksums.

use sha2::{Digest, Sha256};

use crate::task::Task;

/// One row: its text, its label and its position in the file it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// First (or only) text.
    pub first: String,
    /// Second text of a pair task.
    pub second: Option<String>,
    /// Class id, or the score.
    pub label: f64,
    /// Row in its source file, from 0, header not counted.
    pub row: usize,
}

/// The rows of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedFile {
    /// In the order of the file.
    pub examples: Vec<Example>,
    /// SHA-256 in hexadecimal: of the uncompressed bytes of a text file, of a parquet file as it lies.
    pub sha256: String,
}

/// The labelled rows of a task and what they were read from.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Whose rows they are.
    pub task: &'static Task,
    /// Official training set, in its order.
    pub train: Vec<Example>,
    /// Development sets in the task's order: (name, rows).
    pub dev: Vec<(&'static str, Vec<Example>)>,
    /// Files read: (path within the data directory, SHA-256 as [`ParsedFile::sha256`]).
    pub files: Vec<(String, String)>,
    /// [`checksum`] of all rows; for a user's own task that of its files and rows.
    pub sha256: String,
    /// `micro`, `glue`, `glue-unlocked` where a file is not the one of the lock, or `own` for a user's own task.
    pub source: &'static str,
}

impl Dataset {
    /// The file that a set was read from; `None` for the synthetic rows, which are in none.
    pub fn file_of(&self, set: &str) -> Option<&str> {
        // A user's own task lists its TOML file first.
        let sets = self.files.iter().skip(usize::from(self.task.file.is_some()));
        let found = self.task.sets.iter().zip(sets).find(|(known, _)| known.name == set);
        found.map(|(_, (file, _))| file.as_str())
    }
}

/// SHA-256 over all rows in order, in hexadecimal: one line `set, row, first, second, label` each, tabs between. The
/// same rows have the same sum in every layout.
pub fn checksum(train: &[Example], dev: &[(&'static str, Vec<Example>)]) -> String {
    let mut hash = Sha256::new();
    add_rows(&mut hash, "train", train);
    for (name, rows) in dev {
        add_rows(&mut hash, name, rows);
    }
    hex::encode(hash.finalize())
}

/// [`checksum`] of one set alone.
pub(crate) fn set_checksum(name: &str, rows: &[Example]) -> String {
    let mut hash = Sha256::new();
    add_rows(&mut hash, name, rows);
    hex::encode(hash.finalize())
}

fn add_rows(hash: &mut Sha256, set: &str, rows: &[Example]) {
    for row in rows {
        let second = row.second.as_deref().unwrap_or_default();
        hash.update(format!("{set}\t{}\t{}\t{second}\t{}\n", row.row, row.first, row.label));
    }
}

/// SHA-256 that a user's own task is known by: of its files' sums, its TOML file first, and of its rows. Names are left
/// out: the same files in another folder are the same data.
pub(crate) fn own_checksum(files: &[(String, String)], rows: &str) -> String {
    let sums = files.iter().map(|(_, sum)| sum.as_str()).chain([rows]);
    hex::encode(Sha256::digest(sums.map(|sum| format!("{sum}\n")).collect::<String>()))
}
