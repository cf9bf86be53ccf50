//! A task as plain data. One file a task lies in [`crate::tasks`]; the registry is [`crate::tasks::TASKS`].

use crate::metrics::Metric;

/// One GLUE task: where its columns, labels and sizes are, how it is scored and how it is split.
#[derive(Debug)]
pub struct Task {
    /// Name on the command line and in every file, e.g. `cola`.
    pub name: &'static str,
    /// Name in tables, e.g. `CoLA`.
    pub title: &'static str,
    /// Folder of the official download, e.g. `CoLA`.
    pub folder: &'static str,
    /// Folder of the Hub's parquet files, e.g. `cola`.
    pub hub: &'static str,
    /// Column layout of the official TSV files.
    pub tsv: Tsv,
    /// Columns of the Hub's parquet files that hold the text, one or two.
    pub parquet_text: &'static [&'static str],
    /// Label space.
    pub labels: Labels,
    /// Development sets: one, or two for MNLI.
    pub dev_sets: &'static [DevSet],
    /// Rows of the official training set.
    pub train_rows: usize,
    /// Which rule of the SoRA release divides it (spec §4.1).
    pub size_class: SizeClass,
    /// Every metric computed for it.
    pub metrics: &'static [Metric],
    /// Metric that selects the checkpoint in the SoRA release (spec §4.3).
    pub selection_metric: Metric,
    /// Metrics that Table 1 prints, averaged into the task's score (spec §4.3).
    pub reported_metrics: &'static [Metric],
    /// Longest input in tokens used by the published scripts (spec §4.2 and §2.7).
    pub max_length: usize,
}

/// One development set of a task: `dev`, or `matched` and `mismatched`.
#[derive(Debug)]
pub struct DevSet {
    /// Name in every file: `dev`, `matched`, `mismatched`.
    pub name: &'static str,
    /// Stem of the official TSV file, e.g. `dev_matched`.
    pub tsv_stem: &'static str,
    /// Stem of the Hub's parquet split, e.g. `validation_matched`.
    pub parquet_stem: &'static str,
    /// Rows of the official set.
    pub rows: usize,
}

/// Where the fields of an official TSV file are.
#[derive(Debug)]
pub struct Tsv {
    /// Columns of every row of a file without a header line; `None`: the first line names them.
    pub columns: Option<usize>,
    /// Columns that hold the text, one or two.
    pub text: &'static [Column],
    /// Column that holds the label.
    pub label: Column,
    /// Whether rows that lack columns or the label are left out, as the Hub's reader does, or are an error.
    pub skip_incomplete: bool,
}

/// A column, by its name in the header or by its position in a file without one.
#[derive(Debug, Clone, Copy)]
pub enum Column {
    /// Name in the header line.
    Named(&'static str),
    /// Position from 0.
    At(usize),
}

/// Label space of a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Labels {
    /// Classes, in the order of their ids; TSV files hold the name or the id.
    Classes(&'static [&'static str]),
    /// A real score within the bounds, both included (STS-B: 0 to 5).
    Score(f64, f64),
}

impl Labels {
    /// Outputs the head needs: the number of classes, or 1 for a score.
    pub fn outputs(&self) -> usize {
        match self {
            Labels::Classes(names) => names.len(),
            Labels::Score(..) => 1,
        }
    }
}

/// Which of the two rules of the SoRA release divides a task (spec §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeClass {
    /// Development set is halved into validation and test.
    Small,
    /// 1,000 training rows become validation, the whole development set is the test set.
    Large,
}

impl Task {
    /// Whether the label is a score (regression) rather than a class.
    pub fn is_regression(&self) -> bool {
        matches!(self.labels, Labels::Score(..))
    }
}
