//! QQP: do two questions of Quora ask the same?
//!
//! The official `train.tsv` has lines that a stray line break cut short; the Hub leaves them out, and so does
//! [`crate::sources::tsv`]. The numbers of rows are the Hub's.

use crate::metrics::Metric;
use crate::task::{Column, FileFormat, Labels, SetSpec, SizeClass, Source, Task};

/// The task.
pub static TASK: Task = Task {
    name: "qqp",
    title: "QQP",
    labels: Labels::Classes(&["not_duplicate", "duplicate"]),
    sets: &[SetSpec { name: "train", rows: Some(363_846) }, SetSpec { name: "dev", rows: Some(40_430) }],
    sources: &[
        Source {
            format: FileFormat::Tsv { columns: None, skip_incomplete: true },
            repository: None,
            files: &["QQP/train.tsv", "QQP/dev.tsv"],
            text: &[Column::Named("question1"), Column::Named("question2")],
            label: Column::Named("is_duplicate"),
        },
        Source {
            format: FileFormat::Parquet,
            repository: Some("nyu-mll/glue"),
            files: &["qqp/train-00000-of-00001.parquet", "qqp/validation-00000-of-00001.parquet"],
            text: &[Column::Named("question1"), Column::Named("question2")],
            label: Column::Named("label"),
        },
    ],
    metrics: &[Metric::Accuracy, Metric::F1],
    selection: Metric::Accuracy,
    reported: &[Metric::Accuracy, Metric::F1],
    split_rule: SizeClass::Large,
    max_length: 320,
    file: None,
};
