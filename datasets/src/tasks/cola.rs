//! CoLA: is the sentence acceptable English (Warstadt et al. 2019)?

use crate::metrics::Metric;
use crate::task::{Column, FileFormat, Labels, SetSpec, SizeClass, Source, Task};

/// The task.
pub static TASK: Task = Task {
    name: "cola",
    title: "CoLA",
    labels: Labels::Classes(&["unacceptable", "acceptable"]),
    sets: &[SetSpec { name: "train", rows: Some(8551) }, SetSpec { name: "dev", rows: Some(1043) }],
    sources: &[
        Source {
            format: FileFormat::Tsv { columns: Some(4), skip_incomplete: false },
            repository: None,
            files: &["CoLA/train.tsv", "CoLA/dev.tsv"],
            text: &[Column::At(3)],
            label: Column::At(1),
        },
        Source {
            format: FileFormat::Parquet,
            repository: Some("nyu-mll/glue"),
            files: &["cola/train-00000-of-00001.parquet", "cola/validation-00000-of-00001.parquet"],
            text: &[Column::Named("sentence")],
            label: Column::Named("label"),
        },
    ],
    metrics: &[Metric::Matthews],
    selection: Metric::Matthews,
    reported: &[Metric::Matthews],
    split_rule: SizeClass::Small,
    max_length: 128,
    file: None,
};
