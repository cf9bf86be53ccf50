//! Predictions on a test split as compact as a report over thousands of runs needs them.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::record::SetPredictions;

/// Class ids or scores.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Whole numbers from 0 to 255.
    Classes(Vec<u8>),
    /// Any other numbers.
    Scores(Vec<f64>),
}

impl Values {
    /// How many they are.
    pub fn len(&self) -> usize {
        match self {
            Values::Classes(values) => values.len(),
            Values::Scores(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them.
    pub fn get(&self, index: usize) -> f64 {
        match self {
            Values::Classes(values) => f64::from(values[index]),
            Values::Scores(values) => values[index],
        }
    }
}

impl From<Vec<f64>> for Values {
    fn from(values: Vec<f64>) -> Self {
        let class = |value: &f64| {
            let class = *value as u8;
            // By bits: -0 is a score.
            (f64::from(class).to_bits() == value.to_bits()).then_some(class)
        };
        match values.iter().map(class).collect() {
            Some(classes) => Values::Classes(classes),
            None => Values::Scores(values),
        }
    }
}

/// Rows of a test split and their labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TestSet {
    rows: Vec<u32>,
    /// Labels by their bits.
    labels: Vec<u64>,
}

impl TestSet {
    /// True class ids or scores.
    pub fn labels(&self) -> Vec<f64> {
        self.labels.iter().map(|bits| f64::from_bits(*bits)).collect()
    }

    /// Share of the most frequent label in points of 100.
    pub fn largest_share(&self) -> f64 {
        let mut labels = self.labels.clone();
        labels.sort_unstable();
        let most = labels.chunk_by(|a, b| a == b).map(<[u64]>::len).max().unwrap_or(0);
        100.0 * most as f64 / labels.len().max(1) as f64
    }
}

/// Test splits that runs share: one copy of each.
#[derive(Debug, Default)]
pub struct TestSets(Mutex<HashSet<Arc<TestSet>>>);

impl TestSets {
    fn shared(&self, set: TestSet) -> Arc<TestSet> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.get(&set) {
            return Arc::clone(same);
        }
        let set = Arc::new(set);
        known.insert(Arc::clone(&set));
        set
    }
}

/// Predictions of one run on its test split.
#[derive(Debug, Clone, PartialEq)]
pub struct TestPredictions {
    /// Development set.
    pub dev_set: String,
    /// Rows and labels.
    pub test_set: Arc<TestSet>,
    /// Predictions, row by row.
    pub values: Values,
}

/// Predictions on the reported split of a development set; under the official policy the validation split is the only one.
pub fn reported<'a>(sets: &'a [SetPredictions], dev_set: &str) -> Option<&'a SetPredictions> {
    let of_split = |split: &str| sets.iter().find(|set| set.dev_set == dev_set && set.split == split);
    of_split("test").or_else(|| of_split("validation"))
}

impl TestPredictions {
    /// Predictions on the reported split of a development set.
    pub fn of(sets: &[SetPredictions], dev_set: &str, known: &TestSets) -> Option<Self> {
        let reported = reported(sets, dev_set)?;
        let set = TestSet {
            rows: reported.rows.iter().map(|row| *row as u32).collect(),
            labels: reported.labels.iter().map(|label| label.to_bits()).collect(),
        };
        Some(TestPredictions {
            dev_set: dev_set.into(),
            test_set: known.shared(set),
            values: reported.predictions.clone().into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(split: &str, labels: [f64; 2]) -> SetPredictions {
        let (split, dev_set) = (split.into(), "dev".into());
        SetPredictions { split, dev_set, rows: vec![3, 5], labels: labels.to_vec(), predictions: vec![1.0, 0.5] }
    }

    #[test]
    fn the_most_frequent_label_has_the_largest_share() {
        let share = |labels: &[f64]| {
            TestSet { rows: Vec::new(), labels: labels.iter().map(|label| label.to_bits()).collect() }.largest_share()
        };
        assert_eq!([share(&[1.0, 0.0, 1.0, 1.0]), share(&[2.0]), share(&[])], [75.0, 100.0, 0.0]);
    }

    #[test]
    fn whole_numbers_are_classes_and_nothing_is_rounded() {
        assert_eq!(Values::from(vec![0.0, 2.0, 255.0]), Values::Classes(vec![0, 2, 255]));
        for scores in [vec![0.5], vec![256.0], vec![-1.0], vec![-0.0], vec![1.0, 2.25]] {
            assert_eq!(Values::from(scores.clone()), Values::Scores(scores));
        }
    }

    #[test]
    fn the_test_split_comes_before_the_validation_split() {
        let known = TestSets::default();
        let both = [set("validation", [0.0, 0.0]), set("test", [1.0, 0.0])];
        let found = TestPredictions::of(&both, "dev", &known).unwrap();
        assert_eq!((found.test_set.labels(), found.values.get(1)), (vec![1.0, 0.0], 0.5));
        let only = TestPredictions::of(&both[..1], "dev", &known).unwrap();
        assert_eq!(only.test_set.labels(), [0.0, 0.0]);
        assert_eq!(TestPredictions::of(&both, "matched", &known), None);
    }

    #[test]
    fn equal_test_sets_are_one() {
        let known = TestSets::default();
        let of = |labels| TestPredictions::of(&[set("test", labels)], "dev", &known).unwrap().test_set;
        assert!(Arc::ptr_eq(&of([1.0, 0.0]), &of([1.0, 0.0])));
        assert!(!Arc::ptr_eq(&of([1.0, 0.0]), &of([0.0, 0.0])));
    }
}
