//! SST-2: sentiment of phrases and sentences of film reviews (Socher et al. 2013).

use crate::metrics::Metric;
use crate::task::{Column, FileFormat, Labels, SetSpec, SizeClass, Source, TSV, Task};

/// The task.
pub static TASK: Task = Task {
    name: "sst2",
    title: "SST-2",
    labels: Labels::Classes(&["negative", "positive"]),
    sets: &[SetSpec { name: "train", rows: Some(67_349) }, SetSpec { name: "dev", rows: Some(872) }],
    sources: &[
        Source {
            format: TSV,
            repository: None,
            files: &["SST-2/train.tsv", "SST-2/dev.tsv"],
            text: &[Column::Named("sentence")],
            label: Column::Named("label"),
        },
        Source {
            format: FileFormat::Parquet,
            repository: Some("nyu-mll/glue"),
            files: &["sst2/train-00000-of-00001.parquet", "sst2/validation-00000-of-00001.parquet"],
            text: &[Column::Named("sentence")],
            label: Column::Named("label"),
        },
    ],
    metrics: &[Metric::Accuracy],
    selection: Metric::Accuracy,
    reported: &[Metric::Accuracy],
    split_rule: SizeClass::Large,
    max_length: 128,
    file: None,
};
