//! Tests over examples: two methods' predictions on the same rows. Spread over examples says how far the test set decides, and is
//! never mixed with spread over seeds.

use std::collections::BTreeMap;

use datasets::metrics::Metric;
use statrs::distribution::{Binomial, ContinuousCDF, DiscreteCDF, Normal};

use crate::analysis::frame::predictions::Values;
use crate::analysis::resample::MeanDifference;
use crate::analysis::stats::{Interval, SplitMix, mean, quantile_of_sorted};

/// Resamples of the bootstrap.
pub const DRAWS: usize = 10_000;
/// Groups of the jackknife that the acceleration is estimated from.
const GROUPS: usize = 200;

/// A statistic of some rows; `None` where it has no value.
type OnRows<'a> = Box<dyn Fn(&[usize]) -> Option<f64> + 'a>;

/// Labels and the predictions of two methods on the same rows, one pair of predictions a common seed.
pub struct Pairs<'a> {
    labels: Vec<f64>,
    /// Ours and the reference's, by seed.
    predictions: BTreeMap<u64, [&'a Values; 2]>,
}

impl<'a> Pairs<'a> {
    /// Pairs of predictions by seed; a seed whose predictions are not of the labels' length is left out.
    pub fn new(labels: Vec<f64>, predictions: BTreeMap<u64, [&'a Values; 2]>) -> Self {
        let rows = labels.len();
        let fits = |pair: &[&Values; 2]| pair.iter().all(|side| side.len() == rows);
        Pairs { predictions: predictions.into_iter().filter(|(_, pair)| fits(pair)).collect(), labels }
    }

    /// Bias-corrected and accelerated interval (Efron 1987) at `level` of the metric's mean difference over the seeds, in points of
    /// 100, from [`DRAWS`] resamples of the rows; `None` where there is nothing to resample or the metric has no value.
    pub fn bootstrap(&self, metric: Metric, level: f64, seed: u64) -> Option<Interval> {
        let n = self.labels.len();
        if n < 2 || self.predictions.is_empty() {
            return None;
        }
        let difference = self.difference(metric);
        let observed = difference(&(0..n).collect::<Vec<_>>())?;
        let mut random = SplitMix::new(seed);
        let mut rows = vec![0; n];
        let mut draws = Vec::with_capacity(DRAWS);
        for _ in 0..DRAWS {
            rows.fill_with(|| random.below(n));
            draws.push(difference(&rows)?);
        }
        let groups = GROUPS.min(n);
        let without = |group: usize| (0..n).filter(|row| row * groups / n != group).collect::<Vec<_>>();
        let left = (0..groups).map(|group| difference(&without(group))).collect::<Option<Vec<_>>>()?;
        bca(observed, &draws, &left, level)
    }

    /// Mean over the seeds of the metric's difference on some rows, in points of 100.
    fn difference(&self, metric: Metric) -> OnRows<'_> {
        // An accuracy is a mean over rows, so the differences of each row say it all.
        if metric == Metric::Accuracy {
            let by_row = self.differences_of_hits();
            return Box::new(move |rows| mean_of(&by_row, rows));
        }
        let pairs: Vec<[&Values; 2]> = self.predictions.values().copied().collect();
        match MeanDifference::new(metric, &self.labels, &pairs) {
            Some(prepared) => Box::new(move |rows| Some(prepared.on(rows)).filter(|value| value.is_finite())),
            None => Box::new(move |rows| self.recomputed(metric, rows)),
        }
    }

    /// The same, the metric computed anew.
    fn recomputed(&self, metric: Metric, rows: &[usize]) -> Option<f64> {
        let labels: Vec<f64> = rows.iter().map(|&row| self.labels[row]).collect();
        let score = |side: &Values| {
            let predictions: Vec<f64> = rows.iter().map(|&row| side.get(row)).collect();
            metric.compute(&labels, &predictions).ok()
        };
        let of_seed = |[ours, theirs]: &[&Values; 2]| Some(100.0 * (score(ours)? - score(theirs)?));
        mean(&self.predictions.values().map(of_seed).collect::<Option<Vec<_>>>()?)
    }

    /// Mean over the seeds of the difference of hits, row by row, in points of 100.
    fn differences_of_hits(&self) -> Vec<f64> {
        let hit = |side: &Values, row: usize| f64::from(u8::from(side.get(row) == self.labels[row]));
        let of_row = |row: usize| {
            let sum: f64 = self.predictions.values().map(|[ours, theirs]| hit(ours, row) - hit(theirs, row)).sum();
            100.0 * sum / self.predictions.len() as f64
        };
        (0..self.labels.len()).map(of_row).collect()
    }

    /// McNemar's exact test on the predictions of the first common seed: that seed and the two-sided p.
    pub fn mcnemar(&self) -> Option<(u64, f64)> {
        let (seed, [ours, theirs]) = self.predictions.first_key_value()?;
        let right = |side: &Values, row: usize| side.get(row) == self.labels[row];
        let only = |a: &Values, b: &Values| (0..self.labels.len()).filter(|&r| right(a, r) && !right(b, r)).count();
        Some((*seed, mcnemar(only(ours, theirs), only(theirs, ours))?))
    }
}

fn mean_of(values: &[f64], rows: &[usize]) -> Option<f64> {
    (!rows.is_empty()).then(|| rows.iter().map(|&row| values[row]).sum::<f64>() / rows.len() as f64)
}

/// Two-sided exact p of McNemar's test, from the rows only one side has right and those only the other has.
pub fn mcnemar(first: usize, second: usize) -> Option<f64> {
    let (few, all) = (first.min(second) as u64, (first + second) as u64);
    if all == 0 {
        return Some(1.0);
    }
    Some((2.0 * Binomial::new(0.5, all).ok()?.cdf(few)).min(1.0))
}

/// The BCa interval from bootstrap `draws` and jackknife values (Efron 1987, eq. 3.8 and 6.6). Draws equal to the observed value count
/// half. Without any spread it is the observed value itself.
pub fn bca(observed: f64, draws: &[f64], jackknife: &[f64], level: f64) -> Option<Interval> {
    let normal = Normal::standard();
    let below = draws.iter().filter(|draw| **draw < observed).count() as f64;
    let equal = draws.iter().filter(|draw| **draw == observed).count() as f64;
    if equal == draws.len() as f64 {
        return Some(Interval { low: observed, high: observed });
    }
    let share =
        ((below + 0.5 * equal) / draws.len() as f64).clamp(0.5 / draws.len() as f64, 1.0 - 0.5 / draws.len() as f64);
    let bias = normal.inverse_cdf(share);
    let centre = mean(jackknife)?;
    let moment = |power: i32| jackknife.iter().map(|value| (centre - value).powi(power)).sum::<f64>();
    let spread = moment(2).powf(1.5);
    let acceleration = if spread > 0.0 { moment(3) / (6.0 * spread) } else { 0.0 };
    let corrected = |tail: f64| {
        let z = bias + normal.inverse_cdf(tail);
        normal.cdf(bias + z / (1.0 - acceleration * z))
    };
    let tail = (1.0 - level) / 2.0;
    let mut sorted = draws.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(Interval {
        low: quantile_of_sorted(&sorted, corrected(tail))?,
        high: quantile_of_sorted(&sorted, corrected(1.0 - tail))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(actual: f64, expected: f64, tolerance: f64) {
        assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected} within {tolerance}");
    }

    #[test]
    fn mcnemar_is_the_binomial_test() {
        // [stats.binomtest(min(b, c), b + c).pvalue for b, c in ((5, 15), (3, 4), (0, 7))]
        for (first, second, p) in [(5, 15, 0.04138946533203125), (3, 4, 1.0), (0, 7, 0.015625), (0, 0, 1.0)] {
            close(mcnemar(first, second).unwrap(), p, 1e-12);
            close(mcnemar(second, first).unwrap(), p, 1e-12);
        }
    }

    /// 60 rows of two classes: ours errs on every seventh, the reference on every fourth.
    fn labels() -> Vec<f64> {
        (0..60).map(|i| f64::from(i % 2)).collect()
    }

    fn flipped(every: usize) -> Values {
        let of = |(i, label): (usize, &f64)| if i.is_multiple_of(every) { 1.0 - label } else { *label };
        labels().iter().enumerate().map(of).collect::<Vec<f64>>().into()
    }

    fn interval(metric: Metric) -> Interval {
        let (ours, theirs) = (flipped(7), flipped(4));
        Pairs::new(labels(), BTreeMap::from([(0, [&ours, &theirs])])).bootstrap(metric, 0.95, 1).unwrap()
    }

    #[test]
    fn the_bootstrap_agrees_with_scipy() {
        // y = np.arange(60) % 2; a = np.where(np.arange(60) % 7 == 0, 1 - y, y); b = np.where(np.arange(60) % 4 == 0, 1 - y, y)
        // d = 100.0 * ((a == y).astype(float) - (b == y))
        // stats.bootstrap((d,), np.mean, method='BCa', n_resamples=200000, rng=np.random.default_rng(0)).confidence_interval
        let found = interval(Metric::Accuracy);
        close(found.low, -3.3333333333333335, 0.9);
        close(found.high, 23.333333333333332, 0.9);
        assert_eq!(found, interval(Metric::Accuracy), "the same seed draws the same rows");
    }

    #[test]
    fn a_metric_that_is_no_mean_is_resampled_as_a_whole() {
        // mcc = lambda y, p: metrics.matthews_corrcoef(y, p); paired BCa of 100 * (mcc(y, a) - mcc(y, b)), 20000 resamples
        let found = interval(Metric::Matthews);
        close(found.low, -12.953342107610744, 1.8);
        close(found.high, 32.71837645436651, 1.8);
    }

    #[test]
    fn predictions_of_another_length_are_left_out() {
        let (short, right) = (Values::from(vec![0.0; 3]), flipped(4));
        let other = Pairs::new(labels(), BTreeMap::from([(0, [&short, &right])]));
        assert_eq!(other.bootstrap(Metric::Accuracy, 0.95, 1), None);
        assert_eq!(other.mcnemar(), None);
    }
}
