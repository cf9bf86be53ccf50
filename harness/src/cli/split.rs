//! `rankbench split`: row numbers of every split, so that other programs train and predict on the same ones.

use std::path::PathBuf;

use clap::Args;
use datasets::dataset::Dataset;
use datasets::split::{self, Policy, TEST, VALIDATION};
use datasets::{Example, Labels};
use serde::Serialize;

use crate::cli::job::DataFlags;
use crate::env::output;
use crate::error::{Error, Result};
use crate::store::files::{csv_bytes, write_atomically};

/// File of the synthetic rows, which are in the program.
const EMBEDDED: &str = "embedded";

/// `rankbench split`.
#[derive(Debug, Args)]
pub struct Split {
    /// Task; `rankbench list tasks` names them.
    #[arg(long)]
    task: String,
    /// How rows become train, validation and test: sora (as its release) or official (the development set is both). Neither draws: the
    /// release's seed is fixed, so that every run has the same rows.
    #[arg(long, default_value = "sora")]
    policy: Policy,
    /// Also write each row's texts and label, in columns first, second and label.
    #[arg(long)]
    text: bool,
    /// Where the rows go; standard output where it is left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// As JSON: an object a row.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataFlags,
}

/// A row of one split.
#[derive(Debug, Serialize)]
struct SplitRow<'a> {
    /// Task name.
    task: &'static str,
    /// Development set whose checkpoint or score the split is for: `dev`, `matched` or `mismatched`; empty for training rows.
    dev_set: &'static str,
    /// Split: `train`, `validation` (selects the checkpoint) or `test` (is reported).
    split: &'static str,
    /// File the row is in, below the data directory; `embedded` for synthetic rows.
    file: &'a str,
    /// Number of the row in that file, from 0, header not counted.
    row: usize,
    /// First (or only) text; with `--text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<&'a str>,
    /// Second text of a pair task; with `--text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    second: Option<&'a str>,
    /// Class id, or the score; with `--text`.
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
}

impl Split {
    pub(super) fn run(&self) -> Result<()> {
        self.data.own.read()?;
        let task = datasets::tasks::find(&self.task.trim().to_lowercase())?;
        let data = self.data.of_task(task)?;
        let dataset = data.dataset(task)?;
        let parts = split::split(&dataset, self.policy);
        let rows = rows(&dataset, &parts, self.text);
        let bytes = match self.json {
            true => serde_json::to_vec_pretty(&rows).map_err(|e| Error::Internal(e.to_string()))?,
            false => csv_bytes("split.csv", &rows)?,
        };
        match &self.out {
            Some(path) => {
                write_atomically(path, &bytes)?;
                let said = format!("{}: {}", path.display(), counts(&rows));
                if self.json { output::note(said) } else { output::print(said) }
            }
            None => {
                let text = String::from_utf8(bytes).map_err(|e| Error::Internal(e.to_string()))?;
                output::print(text.trim_end());
            }
        }
        Ok(())
    }
}

/// Training rows in their order before shuffling, then the rows of every development set.
fn rows<'a>(dataset: &'a Dataset, parts: &'a split::Split, with_text: bool) -> Vec<SplitRow<'a>> {
    let task = dataset.task;
    let mut found = Vec::new();
    let mut add = |dev_set, split, from: &str, rows: &'a [Example]| {
        let file = dataset.file_of(from).unwrap_or(EMBEDDED);
        found.extend(rows.iter().map(|row| SplitRow {
            task: task.name,
            dev_set,
            split,
            file,
            row: row.row,
            first: with_text.then_some(row.first.as_str()),
            second: with_text.then(|| row.second.as_deref().unwrap_or_default()),
            label: with_text.then(|| label(row, &task.labels)),
        }));
    };
    add("", task.train().name, task.train().name, &parts.train);
    for set in &parts.dev_sets {
        add(set.name, VALIDATION, set.validation_from, &set.validation);
        add(set.name, TEST, set.name, &set.test);
    }
    found
}

/// A class id without a fraction, or the score.
fn label(row: &Example, labels: &Labels) -> String {
    match labels {
        Labels::Classes(_) => format!("{:.0}", row.label),
        Labels::Score(..) => row.label.to_string(),
    }
}

/// `2490 train, 138 dev validation, 139 dev test rows`.
fn counts(rows: &[SplitRow]) -> String {
    let same = |a: &SplitRow, b: &SplitRow| (a.dev_set, a.split) == (b.dev_set, b.split);
    let part = |rows: &[SplitRow]| {
        let set = if rows[0].dev_set.is_empty() { String::new() } else { format!("{} ", rows[0].dev_set) };
        format!("{} {set}{}", rows.len(), rows[0].split)
    };
    rows.chunk_by(same).map(part).collect::<Vec<_>>().join(", ") + " rows"
}
