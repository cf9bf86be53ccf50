//! MRPC: do two sentences of news say the same (Dolan and Brockett 2005)?
//!
//! Table 1 prints accuracy: its values are multiples of one 204th, the size of the test half (spec §4.3).

use crate::metrics::Metric;
use crate::task::{Column, FileFormat, Labels, SetSpec, SizeClass, Source, TSV, Task};

/// The task.
pub static TASK: Task = Task {
    name: "mrpc",
    title: "MRPC",
    labels: Labels::Classes(&["not_equivalent", "equivalent"]),
    sets: &[SetSpec { name: "train", rows: Some(3668) }, SetSpec { name: "dev", rows: Some(408) }],
    sources: &[
        Source {
            format: TSV,
            repository: None,
            files: &["MRPC/train.tsv", "MRPC/dev.tsv"],
            text: &[Column::Named("#1 String"), Column::Named("#2 String")],
            label: Column::Named("Quality"),
        },
        Source {
            format: FileFormat::Parquet,
            repository: Some("nyu-mll/glue"),
            files: &["mrpc/train-00000-of-00001.parquet", "mrpc/validation-00000-of-00001.parquet"],
            text: &[Column::Named("sentence1"), Column::Named("sentence2")],
            label: Column::Named("label"),
        },
    ],
    metrics: &[Metric::Accuracy, Metric::F1],
    selection: Metric::F1,
    reported: &[Metric::Accuracy],
    split_rule: SizeClass::Small,
    max_length: 320,
    file: None,
};
