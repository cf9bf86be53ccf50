//! RTE: does the first text entail the second (from four RTE challenges; Wang et al. 2019)?

use crate::metrics::Metric;
use crate::task::{Column, FileFormat, Labels, SetSpec, SizeClass, Source, TSV, Task};

/// The task.
pub static TASK: Task = Task {
    name: "rte",
    title: "RTE",
    labels: Labels::Classes(&["entailment", "not_entailment"]),
    sets: &[SetSpec { name: "train", rows: Some(2490) }, SetSpec { name: "dev", rows: Some(277) }],
    sources: &[
        Source {
            format: TSV,
            repository: None,
            files: &["RTE/train.tsv", "RTE/dev.tsv"],
            text: &[Column::Named("sentence1"), Column::Named("sentence2")],
            label: Column::Named("label"),
        },
        Source {
            format: FileFormat::Parquet,
            repository: Some("nyu-mll/glue"),
            files: &["rte/train-00000-of-00001.parquet", "rte/validation-00000-of-00001.parquet"],
            text: &[Column::Named("sentence1"), Column::Named("sentence2")],
            label: Column::Named("label"),
        },
    ],
    metrics: &[Metric::Accuracy],
    selection: Metric::Accuracy,
    reported: &[Metric::Accuracy],
    split_rule: SizeClass::Small,
    max_length: 320,
    file: None,
};
