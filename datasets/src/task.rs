//! A task as plain data. One file a task lies in [`crate::tasks`]; the registry is [`crate::tasks::TASKS`].

use crate::error::Result;
use crate::metrics::Metric;

/// One task: where its rows are, their labels and sizes, how it is scored and how it is split.
#[derive(Debug)]
pub struct Task {
    /// Name on the command line and in every file, e.g. `cola`.
    pub name: &'static str,
    /// Name in tables, e.g. `CoLA`.
    pub title: &'static str,
    /// Label space.
    pub labels: Labels,
    /// The training set, then the development sets: one, or two for MNLI.
    pub sets: &'static [SetSpec],
    /// Where its rows may be read from, in the order they are looked for.
    pub sources: &'static [Source],
    /// Every metric computed for it.
    pub metrics: &'static [Metric],
    /// Metric that selects the checkpoint (spec §4.3 for GLUE).
    pub selection: Metric,
    /// Metrics that tables print, averaged into the task's score (spec §4.3 for GLUE).
    pub reported: &'static [Metric],
    /// Which rule of the SoRA release divides it (spec §4.1).
    pub split_rule: SizeClass,
    /// Longest input in tokens (spec §4.2 and §2.7 for GLUE).
    pub max_length: usize,
    /// The file that a user's own task was read from; `None` for a built-in one.
    pub file: Option<TaskFile>,
}

/// One labelled set of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetSpec {
    /// Name in every file: `train`, `dev`, `matched`, `mismatched`.
    pub name: &'static str,
    /// Rows of the published set; `None` where nothing is published.
    pub rows: Option<usize>,
}

/// One way to have a task's rows: files of one format with the same columns.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// How the files are laid out.
    pub format: FileFormat,
    /// The repository on the Hub that holds the files, e.g. `nyu-mll/glue`; `None` for files that lie there alone.
    pub repository: Option<&'static str>,
    /// Paths below the data directory, one for each of [`Task::sets`]. A text file may also be compressed.
    pub files: &'static [&'static str],
    /// Columns that hold the text, one or two.
    pub text: &'static [Column],
    /// Column that holds the label.
    pub label: Column,
}

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// Tab-separated text without any quoting.
    Tsv {
        /// Columns of every row of a file without a header line; `None`: the first line names them.
        columns: Option<usize>,
        /// Whether rows that lack columns or the label are left out, as the Hub's reader does, or are an error.
        skip_incomplete: bool,
    },
    /// One JSON object a line.
    Jsonl,
    /// Parquet as the Hub has it.
    Parquet,
}

/// Tab-separated text whose first line names the columns.
pub const TSV: FileFormat = FileFormat::Tsv { columns: None, skip_incomplete: false };

/// A column, by its name or by its position in a file without names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// Name in the header line, key of the object, or name in the schema.
    Named(&'static str),
    /// Position from 0.
    At(usize),
}

/// Label space of a task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Labels {
    /// Classes, in the order of their ids; files hold the name or the id.
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

/// The TOML file of a user's own task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskFile {
    /// Its path as it was given.
    pub path: &'static str,
    /// The folder that paths of data files are relative to.
    pub folder: &'static str,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: &'static str,
}

impl Task {
    /// Whether the label is a score (regression) rather than a class.
    pub fn is_regression(&self) -> bool {
        matches!(self.labels, Labels::Score(..))
    }

    /// Whether a row has two texts.
    pub fn is_pair(&self) -> bool {
        self.sources.first().is_some_and(|source| source.text.len() == 2)
    }

    /// Every metric of the task by its name.
    ///
    /// # Errors
    /// As [`Metric::compute`].
    pub fn scores(&self, labels: &[f64], predictions: &[f64]) -> Result<Vec<(String, f64)>> {
        let score = |metric: &Metric| Ok((metric.name().to_string(), metric.compute(labels, predictions)?));
        self.metrics.iter().map(score).collect()
    }

    /// The training set.
    pub fn train(&self) -> &'static SetSpec {
        &self.sets[0]
    }

    /// The development sets.
    pub fn dev_sets(&self) -> &'static [SetSpec] {
        &self.sets[1..]
    }
}

impl FileFormat {
    /// Name in messages.
    pub fn name(self) -> &'static str {
        match self {
            FileFormat::Tsv { .. } => "TSV",
            FileFormat::Jsonl => "JSONL",
            FileFormat::Parquet => "parquet",
        }
    }
}
