//! QNLI: does the sentence answer the question (from SQuAD; Rajpurkar et al. 2016)?

use crate::metrics::Metric;
use crate::task::{Column, FileFormat, Labels, SetSpec, SizeClass, Source, TSV, Task};

/// The task.
pub static TASK: Task = Task {
    name: "qnli",
    title: "QNLI",
    labels: Labels::Classes(&["entailment", "not_entailment"]),
    sets: &[SetSpec { name: "train", rows: Some(104_743) }, SetSpec { name: "dev", rows: Some(5463) }],
    sources: &[
        Source {
            format: TSV,
            repository: None,
            files: &["QNLI/train.tsv", "QNLI/dev.tsv"],
            text: &[Column::Named("question"), Column::Named("sentence")],
            label: Column::Named("label"),
        },
        Source {
            format: FileFormat::Parquet,
            repository: Some("nyu-mll/glue"),
            files: &["qnli/train-00000-of-00001.parquet", "qnli/validation-00000-of-00001.parquet"],
            text: &[Column::Named("question"), Column::Named("sentence")],
            label: Column::Named("label"),
        },
    ],
    metrics: &[Metric::Accuracy],
    selection: Metric::Accuracy,
    reported: &[Metric::Accuracy],
    split_rule: SizeClass::Large,
    max_length: 512,
    file: None,
};
