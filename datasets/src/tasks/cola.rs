//! CoLA: is the sentence acceptable English (Warstadt et al. 2019)?

use crate::metrics::Metric;
use crate::task::{Column, DevSet, Labels, SizeClass, Task, Tsv};

/// The task.
pub static TASK: Task = Task {
    name: "cola",
    title: "CoLA",
    folder: "CoLA",
    hub: "cola",
    tsv: Tsv { columns: Some(4), text: &[Column::At(3)], label: Column::At(1), skip_incomplete: false },
    parquet_text: &["sentence"],
    labels: Labels::Classes(&["unacceptable", "acceptable"]),
    dev_sets: &[DevSet { name: "dev", tsv_stem: "dev", parquet_stem: "validation", rows: 1043 }],
    train_rows: 8551,
    size_class: SizeClass::Small,
    metrics: &[Metric::Matthews],
    selection_metric: Metric::Matthews,
    reported_metrics: &[Metric::Matthews],
    max_length: 128,
};
