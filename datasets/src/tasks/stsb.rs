//! STS-B: how alike are two sentences, from 0 to 5 (Cer et al. 2017)?
//!
//! Which correlation Table 1 prints is not known (spec §4.3). Pearson is reported, since it selects the checkpoint;
//! AdaLoRA prints the mean of both, so Spearman is always computed beside it.

use crate::metrics::Metric;
use crate::task::{Column, FileFormat, Labels, SetSpec, SizeClass, Source, TSV, Task};

/// The task.
pub static TASK: Task = Task {
    name: "stsb",
    title: "STS-B",
    labels: Labels::Score(0.0, 5.0),
    sets: &[SetSpec { name: "train", rows: Some(5749) }, SetSpec { name: "dev", rows: Some(1500) }],
    sources: &[
        Source {
            format: TSV,
            repository: None,
            files: &["STS-B/train.tsv", "STS-B/dev.tsv"],
            text: &[Column::Named("sentence1"), Column::Named("sentence2")],
            label: Column::Named("score"),
        },
        Source {
            format: FileFormat::Parquet,
            repository: Some("nyu-mll/glue"),
            files: &["stsb/train-00000-of-00001.parquet", "stsb/validation-00000-of-00001.parquet"],
            text: &[Column::Named("sentence1"), Column::Named("sentence2")],
            label: Column::Named("label"),
        },
    ],
    metrics: &[Metric::Pearson, Metric::Spearman],
    selection: Metric::Pearson,
    reported: &[Metric::Pearson],
    split_rule: SizeClass::Small,
    max_length: 128,
    file: None,
};
