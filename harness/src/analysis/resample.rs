//! Metrics as functions of sums over rows, so that a resample costs one addition a row and number, whatever the metric.
//!
//! A table holds numbers a row: those of the labels, then those of each side (one seed's predictions of one method). The sums over
//! the drawn rows give every side's metric.

use std::ops::AddAssign;

use datasets::metrics::Metric;

use crate::analysis::frame::predictions::Values;

/// Mean difference of a metric over seeds, on any rows.
pub struct MeanDifference {
    table: Table,
    labels: usize,
    side: usize,
    seeds: usize,
    metric: Metric,
}

enum Table {
    /// Counts: exact.
    Counts(Tiles<u32>),
    /// Sums of scores.
    Sums(Tiles<f64>),
}

/// Numbers of a row that are summed together: their sums stay in registers.
const TILE: usize = 16;

/// Numbers by row, cut into tiles of [`TILE`] columns.
struct Tiles<T> {
    width: usize,
    tiles: Vec<Vec<[T; TILE]>>,
}

impl<T: Copy + Default + AddAssign + Into<f64>> Tiles<T> {
    fn new(numbers: &[T], width: usize) -> Self {
        let tile = |start: usize| {
            let of_row = |row: &[T]| std::array::from_fn(|column| row.get(start + column).copied().unwrap_or_default());
            numbers.chunks_exact(width).map(of_row).collect()
        };
        Tiles { width, tiles: (0..width).step_by(TILE).map(tile).collect() }
    }

    fn sums(&self, rows: &[usize]) -> Vec<f64> {
        let of_tile = |tile: &Vec<[T; TILE]>| {
            let mut sums = [T::default(); TILE];
            for &row in rows {
                sums.iter_mut().zip(&tile[row]).for_each(|(sum, number)| *sum += *number);
            }
            sums.map(Into::into)
        };
        let mut sums: Vec<f64> = self.tiles.iter().flat_map(of_tile).collect();
        sums.truncate(self.width);
        sums
    }
}

impl MeanDifference {
    /// Prepares `pairs` (ours and the reference's predictions, by seed); `None` for a metric that is no function of sums.
    pub fn new(metric: Metric, labels: &[f64], pairs: &[[&Values; 2]]) -> Option<Self> {
        let sides = || pairs.iter().flatten().copied();
        let (table, own, side) = match metric {
            Metric::F1 => classes(labels, sides, &[1.0]),
            Metric::Matthews => classes(labels, sides, &seen_classes(labels, sides())),
            Metric::Pearson => scores(labels, sides),
            Metric::Accuracy | Metric::Spearman => return None,
        };
        Some(MeanDifference { table, labels: own, side, seeds: pairs.len(), metric })
    }

    /// The difference on `rows`, in points of 100.
    pub fn on(&self, rows: &[usize]) -> f64 {
        let sums = match &self.table {
            Table::Counts(table) => table.sums(rows),
            Table::Sums(table) => table.sums(rows),
        };
        let (labels, sides) = sums.split_at(self.labels);
        let value = |side: &[f64]| match self.metric {
            Metric::Pearson => pearson(rows.len() as f64, labels, side),
            Metric::F1 => f1(labels, side),
            _ => matthews(rows.len() as f64, labels, side),
        };
        let of_seed = |pair: &[f64]| 100.0 * (value(&pair[..self.side]) - value(&pair[self.side..]));
        sides.chunks_exact(2 * self.side).map(of_seed).sum::<f64>() / self.seeds as f64
    }
}

fn seen_classes<'a>(labels: &[f64], sides: impl Iterator<Item = &'a Values>) -> Vec<f64> {
    let mut classes = labels.to_vec();
    for side in sides {
        classes.extend((0..side.len()).map(|row| side.get(row)));
        classes.sort_by(f64::total_cmp);
        classes.dedup();
    }
    classes
}

/// Counts: rows labelled with each class; of a side, hits on these classes, then rows predicted as each.
fn classes<'a, I: Iterator<Item = &'a Values>>(
    labels: &[f64],
    sides: impl Fn() -> I,
    classes: &[f64],
) -> (Table, usize, usize) {
    let mut table = Vec::new();
    for (row, label) in labels.iter().enumerate() {
        table.extend(classes.iter().map(|class| u32::from(label == class)));
        for side in sides() {
            let prediction = side.get(row);
            table.push(u32::from(prediction == *label && classes.contains(label)));
            table.extend(classes.iter().map(|class| u32::from(prediction == *class)));
        }
    }
    let width = classes.len() + sides().count() * (1 + classes.len());
    (Table::Counts(Tiles::new(&table, width)), classes.len(), 1 + classes.len())
}

/// Sums of x and x² of the labels; of a side y, y² and xy. Each is taken about its mean over all rows, against cancellation.
fn scores<'a, I: Iterator<Item = &'a Values>>(labels: &[f64], sides: impl Fn() -> I) -> (Table, usize, usize) {
    let rows = labels.len() as f64;
    let centre = labels.iter().sum::<f64>() / rows;
    let centres: Vec<f64> = sides().map(|side| (0..side.len()).map(|row| side.get(row)).sum::<f64>() / rows).collect();
    let mut table = Vec::new();
    for (row, label) in labels.iter().enumerate() {
        let x = label - centre;
        table.extend([x, x * x]);
        for (side, centre) in sides().zip(&centres) {
            let y = side.get(row) - centre;
            table.extend([y, y * y, x * y]);
        }
    }
    let width = 2 + 3 * sides().count();
    (Table::Sums(Tiles::new(&table, width)), 2, 3)
}

/// As `datasets::metrics`: 0 without a hit.
fn f1(labels: &[f64], side: &[f64]) -> f64 {
    let (hits, predicted) = (side[0], side[1]);
    if hits == 0.0 { 0.0 } else { 2.0 * hits / (labels[0] + predicted) }
}

/// As `datasets::metrics`: 0 where a side has one class only.
fn matthews(rows: f64, labelled: &[f64], side: &[f64]) -> f64 {
    let (right, predicted) = (side[0], &side[1..]);
    let together: f64 = labelled.iter().zip(predicted).map(|(a, b)| a * b).sum();
    let spread = |counts: &[f64]| rows * rows - counts.iter().map(|n| n * n).sum::<f64>();
    let scale = spread(labelled).sqrt() * spread(predicted).sqrt();
    if scale == 0.0 { 0.0 } else { ((right * rows - together) / scale).clamp(-1.0, 1.0) }
}

/// As `datasets::metrics`: 0 where a side is constant, here up to rounding.
fn pearson(rows: f64, labels: &[f64], side: &[f64]) -> f64 {
    let spread = |sum: f64, squares: f64| {
        let spread = squares - sum * sum / rows;
        if spread > 1e-12 * squares { spread } else { 0.0 }
    };
    let scale = spread(labels[0], labels[1]).sqrt() * spread(side[0], side[1]).sqrt();
    if scale == 0.0 { 0.0 } else { ((side[2] - labels[0] * side[0] / rows) / scale).clamp(-1.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::stats::SplitMix;

    /// The same from the metric's own definition.
    fn directly(metric: Metric, labels: &[f64], pairs: &[[&Values; 2]], rows: &[usize]) -> f64 {
        let labels: Vec<f64> = rows.iter().map(|&row| labels[row]).collect();
        let score = |side: &Values| {
            metric.compute(&labels, &rows.iter().map(|&row| side.get(row)).collect::<Vec<_>>()).unwrap()
        };
        pairs.iter().map(|[a, b]| 100.0 * (score(a) - score(b))).sum::<f64>() / pairs.len() as f64
    }

    fn check(metric: Metric, draw: impl Fn(&mut SplitMix) -> f64) {
        let mut random = SplitMix::new(5);
        let labels: Vec<f64> = (0..40).map(|_| draw(&mut random)).collect();
        let sides: Vec<Values> =
            (0..6).map(|_| (0..40).map(|_| draw(&mut random)).collect::<Vec<f64>>().into()).collect();
        let pairs: Vec<[&Values; 2]> = sides.chunks(2).map(|pair| [&pair[0], &pair[1]]).collect();
        let prepared = MeanDifference::new(metric, &labels, &pairs).unwrap();
        let all: Vec<usize> = (0..40).collect();
        for rows in [&all[..], &all[3..4], &all[..2]] {
            let (found, expected) = (prepared.on(rows), directly(metric, &labels, &pairs, rows));
            assert!((found - expected).abs() < 1e-9, "{metric:?}: {found} is not {expected}");
        }
        for _ in 0..50 {
            let rows: Vec<usize> = (0..40).map(|_| random.below(40)).collect();
            let (found, expected) = (prepared.on(&rows), directly(metric, &labels, &pairs, &rows));
            assert!((found - expected).abs() < 1e-9, "{metric:?}: {found} is not {expected}");
        }
    }

    #[test]
    fn sums_give_the_metric_itself() {
        check(Metric::Matthews, |random| random.below(2) as f64);
        check(Metric::Matthews, |random| random.below(3) as f64);
        check(Metric::F1, |random| random.below(2) as f64);
        check(Metric::Pearson, |random| 2.5 + random.normal());
    }

    #[test]
    fn a_constant_side_scores_nothing() {
        let (labels, constant, other) =
            (vec![1.3, 2.7, 3.1], Values::from(vec![0.7; 3]), Values::from(vec![1.3, 2.7, 3.1]));
        let pairs = [[&constant, &other]];
        let prepared = MeanDifference::new(Metric::Pearson, &labels, &pairs).unwrap();
        assert!((prepared.on(&[0, 1, 2]) + 100.0).abs() < 1e-9);
        assert_eq!(prepared.on(&[1, 1, 1]), 0.0);
    }
}
