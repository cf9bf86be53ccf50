//! Which rows train, which select the checkpoint and which are scored.

use serde::{Deserialize, Serialize};

use crate::dataset::Dataset;
use crate::dataset::Example;
use crate::error::{Error, Result};
use crate::permutation::{numpy_permutation, torch_randperm};
use crate::task::{SetSpec, SizeClass, Task};

/// Name of the split that selects the checkpoint.
pub const VALIDATION: &str = "validation";
/// Name of the split that is reported.
pub const TEST: &str = "test";
/// Seed of every split: the SoRA release never passes another one on (spec §4.1).
const SEED: u64 = 42;
/// Training rows of a large task that become its validation set.
const LARGE_VALIDATION: usize = 1000;
/// Training rows the memorisation probe looks at.
const PROBE: usize = 1000;

/// How the rows of a data set are divided. GLUE's own test labels are hidden, so the development set serves as test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// As the SoRA release does (spec §4.1): a small task halves its development set into validation and test, a large
    /// one takes 1,000 training rows for validation and is tested on the whole development set.
    Sora,
    /// As AdaLoRA and most papers do: the whole development set selects the checkpoint and scores it.
    Official,
}

impl Policy {
    /// Every policy.
    pub const ALL: [Policy; 2] = [Policy::Sora, Policy::Official];

    /// Name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Sora => "sora",
            Policy::Official => "official",
        }
    }
}

impl std::str::FromStr for Policy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Policy::ALL.into_iter().find(|policy| policy.name() == name);
        found.ok_or_else(|| Error::unknown("split policy", name, Policy::ALL.map(Policy::name)))
    }
}

/// Numbers of rows that select the checkpoint and that are scored, for one development set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Rows that select the checkpoint.
    pub validation: usize,
    /// Rows that are scored.
    pub test: usize,
}

/// Sizes of the parts that [`split`] makes for `set`, a development set of the published task; `None` where a number of rows is not known.
pub fn sizes(task: &Task, set: &SetSpec, policy: Policy) -> Option<Sizes> {
    let rows = set.rows?;
    Some(match (policy, task.split_rule) {
        (Policy::Official, _) => Sizes { validation: rows, test: rows },
        (Policy::Sora, SizeClass::Small) => Sizes { validation: half(rows), test: rows - half(rows) },
        (Policy::Sora, SizeClass::Large) => Sizes { validation: validation_rows(task.train().rows?), test: rows },
    })
}

/// A divided data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Rows to train on, in their order before shuffling.
    pub train: Vec<Example>,
    /// One for every development set of the task.
    pub dev_sets: Vec<DevSplit>,
}

/// Use of one development set.
#[derive(Debug, Clone, PartialEq)]
pub struct DevSplit {
    /// Name of the development set.
    pub name: &'static str,
    /// Name of the set that `validation` is taken from: this one, or the training set.
    pub validation_from: &'static str,
    /// Rows that select the checkpoint.
    pub validation: Vec<Example>,
    /// Rows that are scored.
    pub test: Vec<Example>,
}

impl DevSplit {
    /// Whether the same rows select and are scored.
    pub fn is_one_set(&self) -> bool {
        self.validation == self.test
    }
}

/// Divides `dataset`.
///
/// A large task with fewer than 2,000 training rows (the synthetic suite's) gives a fifth of them to validation under
/// [`Policy::Sora`], not 1,000.
pub fn split(dataset: &Dataset, policy: Policy) -> Split {
    match (policy, dataset.task.split_rule) {
        (Policy::Official, _) => {
            let both = |rows: &[Example]| (rows.to_vec(), rows.to_vec());
            Split { train: dataset.train.clone(), dev_sets: dev_sets(dataset, None, both) }
        }
        (Policy::Sora, SizeClass::Small) => {
            Split { train: dataset.train.clone(), dev_sets: dev_sets(dataset, None, halve) }
        }
        (Policy::Sora, SizeClass::Large) => {
            let order = torch_randperm(dataset.train.len(), SEED);
            let (validation, train) = order.split_at(validation_rows(order.len()));
            let validation = take(&dataset.train, validation);
            Split {
                train: take(&dataset.train, train),
                dev_sets: dev_sets(dataset, Some(dataset.task.train().name), |rows| {
                    (validation.clone(), rows.to_vec())
                }),
            }
        }
    }
}

/// Training rows that [`split`] leaves of so many.
pub fn train_rows(rule: SizeClass, policy: Policy, rows: usize) -> usize {
    match (policy, rule) {
        (Policy::Sora, SizeClass::Large) => rows - validation_rows(rows),
        _ => rows,
    }
}

/// Positions of the training rows that measure memorisation: 1,000 of `n` drawn by NumPy with seed 42 (spec §4.1), all
/// where there are fewer.
pub fn train_probe(n: usize) -> Vec<usize> {
    let mut order = numpy_permutation(n, SEED);
    order.truncate(PROBE);
    order
}

/// Every development set divided; the validation rows are taken from the set `from`, or from the development set itself.
fn dev_sets(
    dataset: &Dataset,
    from: Option<&'static str>,
    divide: impl Fn(&[Example]) -> (Vec<Example>, Vec<Example>),
) -> Vec<DevSplit> {
    let divided = dataset.dev.iter().map(|(name, rows)| {
        let (validation, test) = divide(rows);
        DevSplit { name, validation_from: from.unwrap_or(name), validation, test }
    });
    divided.collect()
}

fn halve(rows: &[Example]) -> (Vec<Example>, Vec<Example>) {
    let order = torch_randperm(rows.len(), SEED);
    let (validation, test) = order.split_at(half(rows.len()));
    (take(rows, validation), take(rows, test))
}

/// Rows of a development set of a small task that select the checkpoint.
fn half(rows: usize) -> usize {
    rows / 2
}

fn validation_rows(train: usize) -> usize {
    if train < 2 * LARGE_VALIDATION { train / 5 } else { LARGE_VALIDATION }
}

fn take(rows: &[Example], positions: &[usize]) -> Vec<Example> {
    positions.iter().map(|&position| rows[position].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::micro;
    use crate::tasks::TASKS;

    #[test]
    fn train_rows_are_those_of_the_split() {
        for task in TASKS {
            let Ok(dataset) = micro::dataset(task) else { continue };
            for policy in [Policy::Sora, Policy::Official] {
                let left = split(&dataset, policy).train.len();
                assert_eq!(train_rows(task.split_rule, policy, dataset.train.len()), left, "{}", task.name);
            }
        }
        assert_eq!(train_rows(SizeClass::Large, Policy::Sora, 363_846), 362_846, "QQP as published");
    }
}
