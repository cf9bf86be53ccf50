//! RTE: does the first text entail the second (from four RTE challenges; Wang et al. 2019)?

use crate::metrics::Metric;
use crate::task::{Column, DevSet, Labels, SizeClass, Task, Tsv};

/// The task.
pub static TASK: Task = Task {
    name: "rte",
    title: "RTE",
    folder: "RTE",
    hub: "rte",
    tsv: Tsv {
        columns: None,
        text: &[Column::Named("sentence1"), Column::Named("sentence2")],
        label: Column::Named("label"),
        skip_incomplete: false,
    },
    parquet_text: &["sentence1", "sentence2"],
    labels: Labels::Classes(&["entailment", "not_entailment"]),
    dev_sets: &[DevSet { name: "dev", tsv_stem: "dev", parquet_stem: "validation", rows: 277 }],
    train_rows: 2490,
    size_class: SizeClass::Small,
    metrics: &[Metric::Accuracy],
    selection_metric: Metric::Accuracy,
    reported_metrics: &[Metric::Accuracy],
    max_length: 320,
};
