//! MNLI: does the first sentence entail, contradict or leave open the second (Williams et al. 2018)?
//!
//! Two development sets: of the genres seen in training (matched) and of others (mismatched). The split rule counts it
//! among the small tasks, for all its size (spec §4.1).

use crate::metrics::Metric;
use crate::task::{Column, FileFormat, Labels, SetSpec, SizeClass, Source, TSV, Task};

/// The task.
pub static TASK: Task = Task {
    name: "mnli",
    title: "MNLI",
    labels: Labels::Classes(&["entailment", "neutral", "contradiction"]),
    sets: &[
        SetSpec { name: "train", rows: Some(392_702) },
        SetSpec { name: "matched", rows: Some(9815) },
        SetSpec { name: "mismatched", rows: Some(9832) },
    ],
    sources: &[
        Source {
            format: TSV,
            repository: None,
            files: &["MNLI/train.tsv", "MNLI/dev_matched.tsv", "MNLI/dev_mismatched.tsv"],
            text: &[Column::Named("sentence1"), Column::Named("sentence2")],
            label: Column::Named("gold_label"),
        },
        Source {
            format: FileFormat::Parquet,
            repository: Some("nyu-mll/glue"),
            files: &[
                "mnli/train-00000-of-00001.parquet",
                "mnli/validation_matched-00000-of-00001.parquet",
                "mnli/validation_mismatched-00000-of-00001.parquet",
            ],
            text: &[Column::Named("premise"), Column::Named("hypothesis")],
            label: Column::Named("label"),
        },
    ],
    metrics: &[Metric::Accuracy],
    selection: Metric::Accuracy,
    reported: &[Metric::Accuracy],
    split_rule: SizeClass::Small,
    max_length: 256,
    file: None,
};
