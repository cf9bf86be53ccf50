//! MNLI: does the first sentence entail, contradict or leave open the second (Williams et al. 2018)?
//!
//! Two development sets: of the genres seen in training (matched) and of others (mismatched). The split rule counts it
//! among the small tasks, for all its size (spec §4.1).

use crate::metrics::Metric;
use crate::task::{Column, DevSet, Labels, SizeClass, Task, Tsv};

/// The task.
pub static TASK: Task = Task {
    name: "mnli",
    title: "MNLI",
    folder: "MNLI",
    hub: "mnli",
    tsv: Tsv {
        columns: None,
        text: &[Column::Named("sentence1"), Column::Named("sentence2")],
        label: Column::Named("gold_label"),
        skip_incomplete: false,
    },
    parquet_text: &["premise", "hypothesis"],
    labels: Labels::Classes(&["entailment", "neutral", "contradiction"]),
    dev_sets: &[
        DevSet { name: "matched", tsv_stem: "dev_matched", parquet_stem: "validation_matched", rows: 9815 },
        DevSet { name: "mismatched", tsv_stem: "dev_mismatched", parquet_stem: "validation_mismatched", rows: 9832 },
    ],
    train_rows: 392_702,
    size_class: SizeClass::Small,
    metrics: &[Metric::Accuracy],
    selection_metric: Metric::Accuracy,
    reported_metrics: &[Metric::Accuracy],
    max_length: 256,
};
