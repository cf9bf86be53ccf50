//! STS-B: how alike are two sentences, from 0 to 5 (Cer et al. 2017)?
//!
//! Which correlation Table 1 prints is not known (spec §4.3). Pearson is reported, since it selects the checkpoint;
//! AdaLoRA prints the mean of both, so Spearman is always computed beside it.

use crate::metrics::Metric;
use crate::task::{Column, DevSet, Labels, SizeClass, Task, Tsv};

/// The task.
pub static TASK: Task = Task {
    name: "stsb",
    title: "STS-B",
    folder: "STS-B",
    hub: "stsb",
    tsv: Tsv {
        columns: None,
        text: &[Column::Named("sentence1"), Column::Named("sentence2")],
        label: Column::Named("score"),
        skip_incomplete: false,
    },
    parquet_text: &["sentence1", "sentence2"],
    labels: Labels::Score(0.0, 5.0),
    dev_sets: &[DevSet { name: "dev", tsv_stem: "dev", parquet_stem: "validation", rows: 1500 }],
    train_rows: 5749,
    size_class: SizeClass::Small,
    metrics: &[Metric::Pearson, Metric::Spearman],
    selection_metric: Metric::Pearson,
    reported_metrics: &[Metric::Pearson],
    max_length: 128,
};
