//! SST-2: sentiment of phrases and sentences of film reviews (Socher et al. 2013).

use crate::metrics::Metric;
use crate::task::{Column, DevSet, Labels, SizeClass, Task, Tsv};

/// The task.
pub static TASK: Task = Task {
    name: "sst2",
    title: "SST-2",
    folder: "SST-2",
    hub: "sst2",
    tsv: Tsv {
        columns: None,
        text: &[Column::Named("sentence")],
        label: Column::Named("label"),
        skip_incomplete: false,
    },
    parquet_text: &["sentence"],
    labels: Labels::Classes(&["negative", "positive"]),
    dev_sets: &[DevSet { name: "dev", tsv_stem: "dev", parquet_stem: "validation", rows: 872 }],
    train_rows: 67_349,
    size_class: SizeClass::Large,
    metrics: &[Metric::Accuracy],
    selection_metric: Metric::Accuracy,
    reported_metrics: &[Metric::Accuracy],
    max_length: 128,
};
