//! The real files, where `GLUE_DIR` names a directory that has them.

mod support;

use std::path::Path;

use datasets::sources::load::{load, load_set};
use datasets::split::{Policy, split};
use datasets::tasks;
use datasets::{Error, Example, Labels, SetSpec, Task};
use support::{Form, directory, write};

const WHAT: &str = "the real GLUE files";

/// Rows of each class of the sets that must be there; for STS-B the mean score in thousandths. Others may be there.
const LABELS: &[(&str, &str, &[usize])] = &[
    ("cola", "train", &[2528, 6023]),
    ("cola", "dev", &[322, 721]),
    ("sst2", "train", &[29_780, 37_569]),
    ("sst2", "dev", &[428, 444]),
    ("mrpc", "train", &[1194, 2474]),
    ("mrpc", "dev", &[129, 279]),
    ("stsb", "train", &[2701]),
    ("stsb", "dev", &[2364]),
    ("mnli", "matched", &[3479, 3123, 3213]),
    ("mnli", "mismatched", &[3463, 3129, 3240]),
    ("qnli", "dev", &[2702, 2761]),
    ("rte", "train", &[1249, 1241]),
    ("rte", "dev", &[146, 131]),
];

/// Reads every set under the lock; one that [`LABELS`] does not name may be missing.
fn present(dir: &Path) -> Vec<(&'static Task, &'static SetSpec, Vec<Example>)> {
    let mut present = Vec::new();
    for &task in tasks::TASKS {
        for set in task.sets {
            let required = LABELS.iter().any(|(name, part, _)| *name == task.name && *part == set.name);
            match load_set(task, dir, set, false) {
                Ok(loaded) => present.push((task, set, loaded.rows)),
                Err(error @ Error::Missing { .. }) if !required => eprintln!("skipped: {error}"),
                Err(error) => panic!("{error}"),
            }
        }
    }
    present
}

fn distribution(task: &Task, rows: &[Example]) -> Vec<usize> {
    match task.labels {
        Labels::Classes(names) => {
            (0..names.len()).map(|class| rows.iter().filter(|row| row.label == class as f64).count()).collect()
        }
        Labels::Score(..) => {
            let mean = rows.iter().map(|row| row.label).sum::<f64>() / rows.len() as f64;
            vec![(mean * 1000.0).round() as usize]
        }
    }
}

#[test]
fn files_are_those_of_the_lock() {
    let Some(dir) = directory("GLUE_DIR", WHAT) else { return };
    for (task, set, rows) in present(&dir) {
        assert_eq!(Some(rows.len()), set.rows, "{} {}", task.name, set.name);
        assert!(rows.iter().enumerate().all(|(at, row)| row.row == at));
        assert!(rows.iter().all(|row| row.second.is_some() == task.is_pair()));
        if let Some((.., expected)) = LABELS.iter().find(|(name, part, _)| *name == task.name && *part == set.name) {
            assert_eq!(distribution(task, &rows), *expected, "{} {}", task.name, set.name);
        }
    }
}

#[test]
fn other_layouts_give_the_same_rows() {
    let Some(dir) = directory("GLUE_DIR", WHAT) else { return };
    for (task, set, rows) in present(&dir) {
        for form in [Form::Plain, Form::Gzip, Form::Zstd, Form::Parquet] {
            let copy = tempfile::tempdir().unwrap();
            write(copy.path(), task, set, form, &rows);
            let read = load_set(task, copy.path(), set, true).unwrap();
            assert!(read.rows == rows, "{} {} {form:?}", task.name, set.name);
        }
    }
}

/// First validation rows of spec §4.1.
#[test]
fn splits_are_the_published_ones() {
    let Some(dir) = directory("GLUE_DIR", WHAT) else { return };
    let starts: [(&str, [usize; 5]); 5] = [
        ("rte", [207, 84, 253, 243, 190]),
        ("mrpc", [30, 63, 342, 322, 6]),
        ("cola", [911, 408, 813, 657, 710]),
        ("stsb", [42, 340, 1028, 766, 1150]),
        ("sst2", [6677, 49_712, 38_268, 32_909, 23_395]),
    ];
    for (name, start) in starts {
        let divided = split(&load(tasks::find(name).unwrap(), &dir, false).unwrap(), Policy::Sora);
        let rows: Vec<usize> = divided.dev_sets[0].validation.iter().map(|row| row.row).collect();
        assert_eq!(rows[..5], start, "{name}");
    }
}

/// First rows of the files, so that columns are not mixed up.
#[test]
fn columns_are_the_right_ones() {
    let Some(dir) = directory("GLUE_DIR", WHAT) else { return };
    for (task, set, rows) in present(&dir) {
        let texts = rows.iter().flat_map(|row| [Some(row.first.as_str()), row.second.as_deref()]).flatten();
        let spaced = texts.clone().filter(|text| text.contains(' ')).count();
        assert!(spaced * 10 > texts.count() * 9, "{} {} is not text", task.name, set.name);
    }
}
