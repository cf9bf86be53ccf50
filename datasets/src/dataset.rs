//! Rows of a task, and their checksums.

use sha2::{Digest, Sha256};

use crate::task::{DevSet, Task};

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
    /// SHA-256 in hexadecimal: of the uncompressed bytes of a TSV file, of a parquet file as it lies.
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
    /// [`checksum`] of all rows.
    pub sha256: String,
    /// `micro`, `glue`, or `glue-unlocked` where a file is not the one of the lock.
    pub source: &'static str,
}

/// One of a task's labelled sets.
#[derive(Debug, Clone, Copy)]
pub enum Set {
    /// The training set.
    Train,
    /// A development set.
    Dev(&'static DevSet),
}

impl Set {
    /// `train`, or the development set's name.
    pub fn name(self) -> &'static str {
        match self {
            Set::Train => "train",
            Set::Dev(set) => set.name,
        }
    }

    /// Rows of the official set.
    pub fn rows(self, task: &Task) -> usize {
        match self {
            Set::Train => task.train_rows,
            Set::Dev(set) => set.rows,
        }
    }
}

/// SHA-256 over all rows in order, in hexadecimal: one line `set, row, first, second, label` each, tabs between. The
/// same rows have the same sum in every layout.
pub fn checksum(train: &[Example], dev: &[(&'static str, Vec<Example>)]) -> String {
    let mut hash = Sha256::new();
    add_rows(&mut hash, Set::Train.name(), train);
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
