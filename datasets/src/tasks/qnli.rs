//! QNLI: does the sentence answer the question (from SQuAD; Rajpurkar et al. 2016)?

use crate::metrics::Metric;
use crate::task::{Column, DevSet, Labels, SizeClass, Task, Tsv};

/// The task.
pub static TASK: Task = Task {
    name: "qnli",
    title: "QNLI",
    folder: "QNLI",
    hub: "qnli",
    tsv: Tsv {
        columns: None,
        text: &[Column::Named("question"), Column::Named("sentence")],
        label: Column::Named("label"),
        skip_incomplete: false,
    },
    parquet_text: &["question", "sentence"],
    labels: Labels::Classes(&["entailment", "not_entailment"]),
    dev_sets: &[DevSet { name: "dev", tsv_stem: "dev", parquet_stem: "validation", rows: 5463 }],
    train_rows: 104_743,
    size_class: SizeClass::Large,
    metrics: &[Metric::Accuracy],
    selection_metric: Metric::Accuracy,
    reported_metrics: &[Metric::Accuracy],
    max_length: 512,
};
