//! Statistics of the tables: spread over seeds, intervals, paired tests, and the resolution of a split.
//!
//! Every function is checked against SciPy (`tests/stats.rs`). "Spread over seeds" (mean, deviation, interval, paired
//! tests) and "spread over examples" (resolution) are different things and never mixed.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Most differences for which [`sign_flip`] tries every sign; above it draws [`SIGN_FLIP_DRAWS`] of them.
pub const SIGN_FLIP_EXACT: usize = 12;
/// Sign patterns drawn when there are too many to try each.
pub const SIGN_FLIP_DRAWS: usize = 20_000;

/// Arithmetic mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample standard deviation (divides by n - 1); `None` below two values.
pub fn sample_std(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|v| (v - centre).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// Quantile `q` in 0..1 with linear interpolation (NumPy's default); `None` of nothing.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile_of_sorted(&sorted, q)
}

/// The same of values in rising order.
pub fn quantile_of_sorted(sorted: &[f64], q: f64) -> Option<f64> {
    let position = q.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let low = position.floor() as usize;
    let high = position.ceil() as usize;
    Some(sorted[low] + (sorted[high] - sorted[low]) * (position - low as f64))
}

/// Median; `None` of nothing.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// A closed interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Student t interval of the mean at `level` (e.g. 0.95); `None` below two values.
pub fn t_interval(values: &[f64], level: f64) -> Option<Interval> {
    let centre = mean(values)?;
    let error = sample_std(values)? / (values.len() as f64).sqrt();
    let half = student_quantile(0.5 + level / 2.0, values.len() - 1)? * error;
    Some(Interval { low: centre - half, high: centre + half })
}

/// A paired t test of "the mean difference is 0".
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedT {
    /// t statistic.
    pub t: f64,
    /// Two-sided p value.
    pub p: f64,
}

/// Paired t test on differences; `None` below two, or when they do not differ among themselves.
pub fn paired_t(differences: &[f64]) -> Option<PairedT> {
    let error = sample_std(differences)? / (differences.len() as f64).sqrt();
    if error <= f64::EPSILON * mean(differences)?.abs().max(1e-300) {
        return None;
    }
    let t = mean(differences)? / error;
    Some(PairedT { t, p: 2.0 * student_sf(t.abs(), differences.len() - 1)? })
}

/// Paired sign-flip permutation test of the mean, two-sided: the share of sign patterns whose mean is at least as far
/// from 0. Exact up to [`SIGN_FLIP_EXACT`] differences, seeded draws above; `None` of nothing.
pub fn sign_flip(differences: &[f64], seed: u64) -> Option<f64> {
    let observed = differences.iter().sum::<f64>().abs();
    let scale: f64 = differences.iter().map(|d| d.abs()).sum();
    let reaches = |sum: f64| sum.abs() >= observed - 1e-12 * scale;
    let n = differences.len();
    if n == 0 {
        return None;
    }
    if n <= SIGN_FLIP_EXACT {
        let patterns = 1u32 << n;
        let hits = (0..patterns).filter(|bits| reaches(flipped(differences, |i| bits >> i & 1 == 1))).count();
        return Some(hits as f64 / f64::from(patterns));
    }
    let mut random = SplitMix(seed);
    let hits = (0..SIGN_FLIP_DRAWS).filter(|_| reaches(flipped(differences, |_| random.next() >> 63 == 1))).count();
    Some((hits + 1) as f64 / (SIGN_FLIP_DRAWS + 1) as f64)
}

fn flipped(differences: &[f64], mut negate: impl FnMut(usize) -> bool) -> f64 {
    // The sign bit itself: a branch on random signs is mispredicted half of the time.
    let signed = |(i, d): (usize, &f64)| f64::from_bits(d.to_bits() ^ (u64::from(negate(i)) << 63));
    differences.iter().enumerate().map(signed).sum()
}

/// Holm's step-down correction, in the order given.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0f64;
    for (rank, &index) in order.iter().enumerate() {
        largest = largest.max(p_values[index] * (p_values.len() - rank) as f64).min(1.0);
        adjusted[index] = largest;
    }
    adjusted
}

/// Percentile bootstrap interval of `statistic` at `level`, from `draws` seeded resamples; `None` of nothing.
pub fn bootstrap(
    values: &[f64],
    statistic: impl Fn(&[f64]) -> Option<f64>,
    level: f64,
    draws: usize,
    seed: u64,
) -> Option<Interval> {
    if values.is_empty() {
        return None;
    }
    let mut random = SplitMix(seed);
    let mut sample = vec![0.0; values.len()];
    let mut statistics = Vec::with_capacity(draws);
    for _ in 0..draws {
        sample.fill_with(|| values[random.below(values.len())]);
        statistics.push(statistic(&sample)?);
    }
    statistics.sort_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    Some(Interval { low: quantile_of_sorted(&statistics, tail)?, high: quantile_of_sorted(&statistics, 1.0 - tail)? })
}

/// Resolution of a split in points of 100: the smallest step an accuracy over its examples can take. `None` of no examples.
pub fn resolution(examples: usize) -> Option<f64> {
    (examples > 0).then(|| 100.0 / examples as f64)
}

fn student(freedom: usize) -> Option<StudentsT> {
    StudentsT::new(0.0, 1.0, freedom as f64).ok()
}

/// Quantile `q` of Student's t distribution; `None` without a degree of freedom.
pub fn student_quantile(q: f64, freedom: usize) -> Option<f64> {
    Some(student(freedom)?.inverse_cdf(q))
}

/// Probability that Student's t lies above `t`; `None` without a degree of freedom.
pub fn student_sf(t: f64, freedom: usize) -> Option<f64> {
    Some(student(freedom)?.sf(t))
}

/// SplitMix64 (Steele et al. 2014): small, seeded, the same everywhere.
pub struct SplitMix(u64);

impl SplitMix {
    /// A stream of numbers from a seed.
    pub fn new(seed: u64) -> Self {
        SplitMix(seed)
    }

    /// A standard normal number (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let uniform = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let (radius, angle) = (uniform(self.next()), uniform(self.next()));
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform below `n` (n > 0): the high half of a 128-bit product, whose bias is below n / 2^64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}
