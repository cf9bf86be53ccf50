//! Scores of predictions, as scikit-learn and SciPy define them.
//!
//! Two choices where those give NaN or a warning: a correlation with a constant side is 0, and F1 without any positive
//! row is 0. A value that is not finite never becomes a number: it is an error.

use std::collections::HashMap;

use crate::error::{Error, Result};

/// How predictions are scored. Greater is better for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Share of equal pairs, 0 to 1.
    Accuracy,
    /// Harmonic mean of precision and recall of class 1, 0 to 1.
    F1,
    /// Matthews correlation of classes, two or more, -1 to 1.
    Matthews,
    /// Linear correlation of scores, -1 to 1.
    Pearson,
    /// Correlation of ranks, ties sharing their average rank, -1 to 1.
    Spearman,
}

impl Metric {
    /// Every metric.
    pub const ALL: &'static [Metric] =
        &[Metric::Accuracy, Metric::F1, Metric::Matthews, Metric::Pearson, Metric::Spearman];

    /// The metric of a name.
    pub fn named(name: &str) -> Option<Metric> {
        Metric::ALL.iter().copied().find(|metric| metric.name() == name)
    }

    /// Name in every file, e.g. `matthews`.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Accuracy => "accuracy",
            Metric::F1 => "f1",
            Metric::Matthews => "matthews",
            Metric::Pearson => "pearson",
            Metric::Spearman => "spearman",
        }
    }

    /// Scores `predictions` against `labels`: class ids for the first three, scores for the correlations.
    ///
    /// # Errors
    /// [`Error::Metric`] for no rows, another number of predictions than labels, or a value that is not finite.
    pub fn compute(self, labels: &[f64], predictions: &[f64]) -> Result<f64> {
        self.check(labels, predictions)?;
        let value = match self {
            Metric::Accuracy => share(labels, predictions, |label, prediction| label == prediction),
            Metric::F1 => f1(labels, predictions),
            Metric::Matthews => matthews(labels, predictions),
            Metric::Pearson => pearson(labels, predictions),
            Metric::Spearman => pearson(&ranks(labels), &ranks(predictions)),
        };
        if value.is_finite() { Ok(value) } else { Err(self.error("the values are too large".into(), "")) }
    }

    fn check(self, labels: &[f64], predictions: &[f64]) -> Result<()> {
        if labels.len() != predictions.len() {
            return Err(self.error(format!("{} labels but {} predictions", labels.len(), predictions.len()), ""));
        }
        if labels.is_empty() {
            return Err(self.error("there are no rows".into(), "Check the split: its test set is empty"));
        }
        for (what, values) in [("label", labels), ("prediction", predictions)] {
            if let Some(row) = values.iter().position(|value| !value.is_finite()) {
                let detail = format!("{what} {row} (from 0) is {}", values[row]);
                return Err(self.error(detail, "A model that diverged gives such values: lower its learning rate"));
            }
        }
        Ok(())
    }

    fn error(self, detail: String, help: &str) -> Error {
        Error::Metric { metric: self.name(), detail, help: help.into() }
    }
}

fn count(labels: &[f64], predictions: &[f64], holds: impl Fn(f64, f64) -> bool) -> f64 {
    labels.iter().zip(predictions).filter(|(label, prediction)| holds(**label, **prediction)).count() as f64
}

fn share(labels: &[f64], predictions: &[f64], holds: impl Fn(f64, f64) -> bool) -> f64 {
    count(labels, predictions, holds) / labels.len() as f64
}

/// 2 TP / (2 TP + FP + FN).
fn f1(labels: &[f64], predictions: &[f64]) -> f64 {
    let hits = count(labels, predictions, |label, prediction| label == 1.0 && prediction == 1.0);
    let misses = count(labels, predictions, |label, prediction| (label == 1.0) != (prediction == 1.0));
    if hits == 0.0 { 0.0 } else { 2.0 * hits / (2.0 * hits + misses) }
}

/// Gorodkin's R_K; for two classes the Matthews correlation.
fn matthews(labels: &[f64], predictions: &[f64]) -> f64 {
    let (labelled, predicted) = (occurrences(labels), occurrences(predictions));
    let rows = labels.len() as f64;
    let right = count(labels, predictions, |label, prediction| label == prediction);
    let together: f64 = labelled.iter().map(|(class, n)| n * predicted.get(class).copied().unwrap_or(0.0)).sum();
    let spread = |counts: &HashMap<u64, f64>| rows * rows - counts.values().map(|n| n * n).sum::<f64>();
    let scale = spread(&labelled).sqrt() * spread(&predicted).sqrt();
    if scale == 0.0 { 0.0 } else { ((right * rows - together) / scale).clamp(-1.0, 1.0) }
}

/// How often each value occurs, by its bits; -0 counts as 0.
fn occurrences(values: &[f64]) -> HashMap<u64, f64> {
    let mut counts = HashMap::new();
    for value in values {
        *counts.entry((value + 0.0).to_bits()).or_insert(0.0) += 1.0;
    }
    counts
}

fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let (Some(x), Some(y)) = (deviations(x), deviations(y)) else { return 0.0 };
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    (product(&x, &y) / (product(&x, &x).sqrt() * product(&y, &y).sqrt())).clamp(-1.0, 1.0)
}

/// Distances from the mean, scaled so that the largest is 1; none for values that are all the same.
fn deviations(values: &[f64]) -> Option<Vec<f64>> {
    if values.windows(2).all(|pair| pair[0] == pair[1]) {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let largest = values.iter().map(|value| (value - mean).abs()).fold(0.0, f64::max);
    Some(values.iter().map(|value| (value - mean) / largest).collect())
}

/// Position of the largest value, the first of equals: the class that logits predict; NaN where one is NaN.
pub fn largest(values: &[f64]) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let better = |best: usize, (index, value): (usize, &f64)| if *value > values[best] { index } else { best };
    values.iter().enumerate().fold(0, better) as f64
}

/// Rank of every value from 1; equal ones share the average of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for ties in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (ties.len() + 1) as f64 / 2.0;
        for &position in ties {
            ranks[position] = rank;
        }
        before += ties.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_largest_logits_is_the_class() {
        assert_eq!(largest(&[0.1, 0.7, 0.7]), 1.0);
        assert!(largest(&[0.1, f64::NAN, 0.7]).is_nan(), "no class is better than a number that is none");
    }
}
