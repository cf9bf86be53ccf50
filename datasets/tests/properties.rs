//! Properties of all inputs: rows survive their files, permutations and splits lose nothing, metrics stay in bounds.

mod support;

use std::collections::HashSet;

use datasets::Example;
use datasets::batch::{Padding, batches};
use datasets::dataset::Dataset;
use datasets::metrics::Metric;
use datasets::permutation::{numpy_permutation, torch_randperm};
use datasets::sources::load::load_set;
use datasets::split::{self, Policy, Sizes, split, train_probe};
use datasets::task::SizeClass;
use datasets::tasks;
use datasets::tokenizer::{Encoding, TokenizedExample};
use proptest::prelude::*;
use support::{Form, rows, write};

const METRICS: [Metric; 5] = [Metric::Accuracy, Metric::F1, Metric::Matthews, Metric::Pearson, Metric::Spearman];

/// Any text a TSV file can hold.
fn text() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace(['\t', '\n'], " "))
}

fn examples() -> impl Strategy<Value = Vec<Example>> {
    prop::collection::vec((text(), 0..2u8), 0..20).prop_map(|rows| {
        let row =
            |(row, (first, label)): (usize, (String, u8))| Example { first, second: None, label: label.into(), row };
        rows.into_iter().enumerate().map(row).collect()
    })
}

fn dataset(task: &'static datasets::Task, train: usize, dev: usize) -> Dataset {
    let dev = task.dev_sets().iter().enumerate().map(|(more, set)| (set.name, rows(task, dev + more))).collect();
    Dataset { task, train: rows(task, train), dev, files: Vec::new(), sha256: String::new(), source: "test" }
}

fn numbers(rows: &[Example]) -> Vec<usize> {
    rows.iter().map(|row| row.row).collect()
}

proptest! {
    #[test]
    fn rows_survive_their_file(examples in examples()) {
        let task = tasks::find("sst2").unwrap();
        for form in [Form::Plain, Form::Gzip, Form::Zstd, Form::Parquet] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), task, task.train(), form, &examples);
            prop_assert_eq!(&load_set(task, dir.path(), task.train(), true).unwrap().rows, &examples);
        }
    }

    #[test]
    fn permutations_hold_every_position_once(n in 0..3000usize, seed: u64) {
        for order in [torch_randperm(n, seed), numpy_permutation(n, seed)] {
            let mut sorted = order;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..n).collect::<Vec<_>>());
        }
    }

    #[test]
    fn splits_are_disjoint_and_lose_nothing(task in 0..8usize, train in 0..4000usize, dev in 0..300usize) {
        let dataset = dataset(tasks::TASKS[task], train, dev);
        let divided = split(&dataset, Policy::Sora);
        prop_assert_eq!(divided.dev_sets.len(), dataset.dev.len());
        for (part, (name, rows)) in divided.dev_sets.iter().zip(&dataset.dev) {
            prop_assert_eq!(part.name, *name);
            let (whole, other) = match dataset.task.split_rule {
                SizeClass::Small => (numbers(rows), &part.test),
                SizeClass::Large => (numbers(&dataset.train), &divided.train),
            };
            let mut together = [numbers(&part.validation), numbers(other)].concat();
            together.sort_unstable();
            prop_assert_eq!(together, whole);
        }
        let official = split(&dataset, Policy::Official);
        prop_assert_eq!(&official.train, &dataset.train);
        for (part, (_, rows)) in official.dev_sets.iter().zip(&dataset.dev) {
            prop_assert!(part.validation == *rows && part.test == *rows);
        }
    }

    #[test]
    fn metrics_are_bounded_and_symmetric(pairs in prop::collection::vec((0..4u8, 0..4u8), 1..60)) {
        let (labels, predictions): (Vec<f64>, Vec<f64>) = pairs.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).unzip();
        for metric in METRICS {
            let value = metric.compute(&labels, &predictions).unwrap();
            prop_assert!((-1.0..=1.0).contains(&value), "{:?} {}", metric, value);
            let mirrored = metric.compute(&predictions, &labels).unwrap();
            prop_assert!((value - mirrored).abs() < 1e-12, "{:?}", metric);
        }
        if labels.iter().any(|label| *label != labels[0]) {
            for metric in [Metric::Accuracy, Metric::Matthews, Metric::Pearson, Metric::Spearman] {
                prop_assert!((metric.compute(&labels, &labels).unwrap() - 1.0).abs() < 1e-12);
            }
            let negated: Vec<f64> = labels.iter().map(|label| -label).collect();
            for metric in [Metric::Pearson, Metric::Spearman] {
                prop_assert!((metric.compute(&labels, &negated).unwrap() + 1.0).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn ranks_do_not_see_the_scale(values in prop::collection::vec(-1e3..1e3f64, 2..40), seed: u64) {
        let labels: Vec<f64> = torch_randperm(values.len(), seed).into_iter().map(|i| values[i]).collect();
        let bent: Vec<f64> = values.iter().map(|value| value.powi(3)).collect();
        let metric = Metric::Spearman;
        prop_assert_eq!(metric.compute(&labels, &values).unwrap(), metric.compute(&labels, &bent).unwrap());
    }

    #[test]
    fn batches_keep_every_token(lengths in prop::collection::vec(1..30usize, 0..40), size in 0..9usize, bucket in 0..17usize, seed: u64) {
        let limit = 32;
        let encoded: Vec<TokenizedExample> = lengths.iter().enumerate().map(|(row, &length)| TokenizedExample {
            encoding: Encoding { ids: vec![7 + row as u32; length], type_ids: vec![1; length] },
            label: row as f64 / 2.0,
            row: 100 + row,
        }).collect();
        let order = torch_randperm(lengths.len(), seed);
        for padding in [Padding::Bucket(bucket), Padding::MaxLength] {
            let all = batches(&encoded, &order, size, padding, limit, 3);
            prop_assert!(all.iter().rev().skip(1).all(|batch| batch.rows == size.max(1)));
            let rows: Vec<usize> = all.iter().flat_map(|batch| batch.source_rows.clone()).collect();
            prop_assert_eq!(rows, order.iter().map(|row| 100 + row).collect::<Vec<_>>());
            for batch in &all {
                let longest = batch.source_rows.iter().map(|row| lengths[row - 100]).max().unwrap();
                let expected = match padding {
                    Padding::Bucket(multiple) => longest.next_multiple_of(multiple.max(1)).min(limit),
                    Padding::MaxLength => limit,
                };
                prop_assert_eq!(batch.length, expected);
                prop_assert_eq!(batch.tokens, batch.mask.iter().sum::<i64>() as u64);
                for (at, row) in batch.source_rows.iter().enumerate() {
                    let (row, start) = (row - 100, at * batch.length);
                    prop_assert_eq!(batch.labels[at], row as f64 / 2.0);
                    for column in 0..batch.length {
                        let token = column < lengths[row];
                        let expected = if token { (7 + row as i64, 1, 1) } else { (3, 0, 0) };
                        let entry = start + column;
                        prop_assert_eq!((batch.ids[entry], batch.mask[entry], batch.type_ids[entry]), expected);
                    }
                }
            }
        }
    }
}

/// Sizes of spec §4.1, and rows in permuted order.
#[test]
fn splits_have_the_published_sizes() {
    let sizes = |task: &str| {
        let task = tasks::find(task).unwrap();
        let dev = task.dev_sets().iter().map(|set| (set.name, rows(task, set.rows.unwrap()))).collect();
        let train = rows(task, task.train().rows.unwrap());
        let data = Dataset { task, train, dev, files: Vec::new(), sha256: String::new(), source: "test" };
        let divided = split(&data, Policy::Sora);
        for policy in Policy::ALL {
            for (set, part) in task.dev_sets().iter().zip(split(&data, policy).dev_sets) {
                let expected = Sizes { validation: part.validation.len(), test: part.test.len() };
                assert_eq!(split::sizes(task, set, policy), Some(expected), "{} {}", task.name, policy.name());
            }
        }
        let dev = divided.dev_sets.iter().map(|part| (part.validation.len(), part.test.len()));
        (divided.train.len(), dev.collect::<Vec<_>>())
    };
    assert_eq!(sizes("cola"), (8551, vec![(521, 522)]));
    assert_eq!(sizes("sst2"), (66_349, vec![(1000, 872)]));
    assert_eq!(sizes("mrpc"), (3668, vec![(204, 204)]));
    assert_eq!(sizes("qqp"), (362_846, vec![(1000, 40_430)]));
    assert_eq!(sizes("stsb"), (5749, vec![(750, 750)]));
    assert_eq!(sizes("mnli"), (392_702, vec![(4907, 4908), (4916, 4916)]));
    assert_eq!(sizes("qnli"), (103_743, vec![(1000, 5463)]));
    assert_eq!(sizes("rte"), (2490, vec![(138, 139)]));
}

#[test]
fn rows_come_in_the_permuted_order() {
    let small = split(&dataset(tasks::find("rte").unwrap(), 10, 277), Policy::Sora);
    assert_eq!(numbers(&small.dev_sets[0].validation)[..5], [207, 84, 253, 243, 190]);
    assert_eq!(numbers(&small.train), (0..10).collect::<Vec<_>>());
    let task = tasks::find("sst2").unwrap();
    let large = split(&dataset(task, 67_349, 9), Policy::Sora);
    assert_eq!(numbers(&large.dev_sets[0].validation)[..5], [6677, 49_712, 38_268, 32_909, 23_395]);
    assert_eq!(numbers(&large.dev_sets[0].test), (0..9).collect::<Vec<_>>());
    assert_eq!(split(&dataset(task, 1999, 9), Policy::Sora).dev_sets[0].validation.len(), 399);
    assert_eq!(split(&dataset(task, 2000, 9), Policy::Sora).dev_sets[0].validation.len(), 1000);
}

#[test]
fn the_probe_is_a_thousand_rows() {
    assert_eq!(train_probe(2490)[..3], [1913, 795, 1455]);
    assert_eq!(train_probe(2490).len(), 1000);
    assert_eq!(train_probe(300).into_iter().collect::<HashSet<_>>().len(), 300);
}

#[test]
fn policies_are_written_as_recipes_name_them() {
    for (policy, name) in [(Policy::Sora, "\"sora\""), (Policy::Official, "\"official\"")] {
        assert_eq!(serde_json::to_string(&policy).unwrap(), name);
        assert_eq!(serde_json::from_str::<Policy>(name).unwrap(), policy);
    }
}
