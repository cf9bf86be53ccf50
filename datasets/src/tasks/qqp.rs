//! QQP: do two questions of Quora ask the same?
//!
//! The official `train.tsv` has lines that a stray line break cut short; the Hub leaves them out, and so does
//! [`crate::sources::read`]. The numbers of rows are the Hub's.

use crate::metrics::Metric;
use crate::task::{Column, DevSet, Labels, SizeClass, Task, Tsv};

/// The task.
pub static TASK: Task = Task {
    name: "qqp",
    title: "QQP",
    folder: "QQP",
    hub: "qqp",
    tsv: Tsv {
        columns: None,
        text: &[Column::Named("question1"), Column::Named("question2")],
        label: Column::Named("is_duplicate"),
        skip_incomplete: true,
    },
    parquet_text: &["question1", "question2"],
    labels: Labels::Classes(&["not_duplicate", "duplicate"]),
    dev_sets: &[DevSet { name: "dev", tsv_stem: "dev", parquet_stem: "validation", rows: 40430 }],
    train_rows: 363_846,
    size_class: SizeClass::Large,
    metrics: &[Metric::Accuracy, Metric::F1],
    selection_metric: Metric::Accuracy,
    reported_metrics: &[Metric::Accuracy, Metric::F1],
    max_length: 320,
};
