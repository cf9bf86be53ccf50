//! MRPC: do two sentences of news say the same (Dolan and Brockett 2005)?
//!
//! Table 1 prints accuracy: its values are multiples of one 204th, the size of the test half (spec §4.3).

use crate::metrics::Metric;
use crate::task::{Column, DevSet, Labels, SizeClass, Task, Tsv};

/// The task.
pub static TASK: Task = Task {
    name: "mrpc",
    title: "MRPC",
    folder: "MRPC",
    hub: "mrpc",
    tsv: Tsv {
        columns: None,
        text: &[Column::Named("#1 String"), Column::Named("#2 String")],
        label: Column::Named("Quality"),
        skip_incomplete: false,
    },
    parquet_text: &["sentence1", "sentence2"],
    labels: Labels::Classes(&["not_equivalent", "equivalent"]),
    dev_sets: &[DevSet { name: "dev", tsv_stem: "dev", parquet_stem: "validation", rows: 408 }],
    train_rows: 3668,
    size_class: SizeClass::Small,
    metrics: &[Metric::Accuracy, Metric::F1],
    selection_metric: Metric::F1,
    reported_metrics: &[Metric::Accuracy],
    max_length: 320,
};
