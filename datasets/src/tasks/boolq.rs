//! BoolQ: does the passage answer the question with yes (Clark et al. 2019)? In SuperGLUE's files.
//!
//! No table of the SoRA paper has it, so what GLUE's tasks take from the paper is our own here, and says so. Its rows:
//! 9,427 for training and 3,270 for development (Clark et al. 2019, SuperGLUE's Table 1).

use crate::metrics::Metric;
use crate::task::{Column, FileFormat, Labels, SetSpec, SizeClass, Source, Task};

/// The question comes first, as in the files.
const TEXT: &[Column] = &[Column::Named("question"), Column::Named("passage")];
const LABEL: Column = Column::Named("label");

/// The task.
pub static TASK: Task = Task {
    name: "boolq",
    title: "BoolQ",
    labels: Labels::Classes(&["False", "True"]),
    sets: &[SetSpec { name: "train", rows: Some(9427) }, SetSpec { name: "dev", rows: Some(3270) }],
    sources: &[
        Source {
            format: FileFormat::Jsonl,
            repository: None,
            files: &["BoolQ/train.jsonl", "BoolQ/val.jsonl"],
            text: TEXT,
            label: LABEL,
        },
        Source {
            format: FileFormat::Parquet,
            repository: Some("aps/super_glue"),
            files: &["boolq/train-00000-of-00001.parquet", "boolq/validation-00000-of-00001.parquet"],
            text: TEXT,
            label: LABEL,
        },
    ],
    metrics: &[Metric::Accuracy],
    // The only metric of SuperGLUE's BoolQ.
    selection: Metric::Accuracy,
    reported: &[Metric::Accuracy],
    // OUR CHOICE: a comment of the SoRA release calls sets of fewer than 10,000 rows small (spec §4.1).
    split_rule: SizeClass::Small,
    // OUR CHOICE: no published script of the three methods has a length for it; longer passages are cut.
    max_length: 256,
    file: None,
};
