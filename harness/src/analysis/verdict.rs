//! Whether a mean of ours agrees with a published one: the rule of ADR 0007, on numbers alone.
//!
//! `mu` is a published mean over `m` runs, `x_1..x_n` are ours with sample deviation `s`, `d = mean(x) - mu`. The standard error
//! of the difference of two means is `s sqrt(1/n + 1/m)`: the published mean is no exact value either. All in points of 100.

use crate::analysis::stats::{Interval, mean, sample_std, student_quantile, student_sf};

/// Level of the test of a difference.
pub const ALPHA: f64 = 0.05;
/// Margin of equivalence of an average, in points; the least margin of a cell.
pub const MARGIN: f64 = 0.5;
/// Share of the differences of its size that a test finds, for [`detectable`].
const POWER: f64 = 0.8;
/// Most seeds that [`fewest_seeds`] looks at.
pub const MOST_SEEDS: usize = 1000;

/// Outcome of a comparison with a published number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Equivalent: the 90 % interval of the difference lies inside the margin.
    Reproduced,
    /// Not equivalent, and the difference is significant.
    Differs,
    /// Neither: more seeds are needed.
    Undecided,
    /// The settings or the metric differ, or there are fewer than two seeds.
    NotComparable,
}

impl Verdict {
    /// Every verdict, in the order of the tables.
    pub const ALL: [Verdict; 4] = [Verdict::Reproduced, Verdict::Differs, Verdict::Undecided, Verdict::NotComparable];

    /// Name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Reproduced => "reproduced",
            Verdict::Differs => "differs",
            Verdict::Undecided => "undecided",
            Verdict::NotComparable => "not comparable",
        }
    }
}

/// A published mean and the runs it is a mean of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PublishedMean {
    /// The mean, in points.
    pub value: f64,
    /// Runs behind it; 1 where the publication does not say.
    pub runs: usize,
}

/// Margin of a cell: the larger of `least` points and two examples of a split of `examples`.
pub fn cell_margin(least: f64, examples: usize) -> f64 {
    least.max(2.0 * 100.0 / examples.max(1) as f64)
}

/// Test of one mean against a published one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Test {
    /// Seeds, n.
    pub seeds: usize,
    /// d, ours less the published.
    pub difference: f64,
    /// Standard error of d.
    pub standard_error: f64,
    /// Two-sided p of d = 0.
    pub p: f64,
    /// 90 % interval of d, the one of two one-sided tests at 5 %.
    pub interval: Interval,
    /// Margin of equivalence.
    pub margin: f64,
    /// Least difference that this many seeds show with a power of 80 % at 5 %.
    pub detectable: f64,
    /// Sample deviation of ours.
    pub deviation: f64,
    /// Runs behind the published mean, m.
    pub published_runs: usize,
}

impl Test {
    /// Tests `ours`, one value a seed; `None` below two seeds.
    pub fn new(ours: &[f64], published: PublishedMean, margin: f64) -> Option<Self> {
        let (centre, s, n) = (mean(ours)?, sample_std(ours)?, ours.len());
        let difference = centre - published.value;
        let standard_error = error_of(s, n, published.runs);
        let half = half_width(standard_error, n)?;
        Some(Test {
            seeds: n,
            difference,
            standard_error,
            p: two_sided(difference, standard_error, n - 1)?,
            interval: Interval { low: difference - half, high: difference + half },
            margin,
            detectable: detectable(standard_error, n)?,
            deviation: s,
            published_runs: published.runs,
        })
    }

    /// Fewest seeds of this spread whose interval would fit into the margin around an equal mean; none up to 1,000 where the
    /// published mean of few runs is too uncertain alone.
    pub fn seeds_needed(&self) -> Option<usize> {
        fewest_seeds(self.margin, |n| half_width(error_of(self.deviation, n, self.published_runs), n))
    }

    /// Whether the interval lies inside ± margin (two one-sided tests).
    pub fn is_equivalent(&self) -> bool {
        -self.margin <= self.interval.low && self.interval.high <= self.margin
    }

    /// The verdict, with the p value that counts: Holm-corrected for a cell, the test's own for an average.
    pub fn verdict(&self, p: f64) -> Verdict {
        match (self.is_equivalent(), p < ALPHA) {
            (true, _) => Verdict::Reproduced,
            (false, true) => Verdict::Differs,
            (false, false) => Verdict::Undecided,
        }
    }
}

/// Least difference that `seeds` seeds show with a power of 80 % in a two-sided t test at 5 %; `None` below two seeds.
pub fn detectable(standard_error: f64, seeds: usize) -> Option<f64> {
    let freedom = seeds.checked_sub(1)?;
    Some((student_quantile(1.0 - ALPHA / 2.0, freedom)? + student_quantile(POWER, freedom)?) * standard_error)
}

/// Half of the 90 % interval of a difference, the one of two one-sided tests at 5 %; `None` below two seeds.
pub fn half_width(standard_error: f64, seeds: usize) -> Option<f64> {
    Some(student_quantile(0.95, seeds.checked_sub(1)?)? * standard_error)
}

/// Fewest seeds, two or more, at which `width` is within `margin`; `None` where more than [`MOST_SEEDS`] are. `width` falls with every seed.
pub fn fewest_seeds(margin: f64, width: impl Fn(usize) -> Option<f64>) -> Option<usize> {
    let fits = |n: usize| width(n).is_some_and(|width| width <= margin);
    let (mut low, mut high) = (2, MOST_SEEDS + 1);
    while low < high {
        let middle = (low + high) / 2;
        if fits(middle) { high = middle } else { low = middle + 1 }
    }
    (low <= MOST_SEEDS).then_some(low)
}

fn error_of(s: f64, n: usize, m: usize) -> f64 {
    s * (1.0 / n as f64 + 1.0 / m.max(1) as f64).sqrt()
}

/// Without any spread the difference is either nothing or certain.
fn two_sided(difference: f64, standard_error: f64, freedom: usize) -> Option<f64> {
    match standard_error > 0.0 {
        true => Some((2.0 * student_sf((difference / standard_error).abs(), freedom)?).min(1.0)),
        false => Some(if difference == 0.0 { 1.0 } else { 0.0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::stats::{SplitMix, holm};

    const OURS: [f64; 5] = [85.61, 84.17, 86.33, 84.89, 85.61];
    const PUBLISHED: PublishedMean = PublishedMean { value: 85.32, runs: 5 };

    fn close(actual: f64, expected: f64) {
        assert!((actual - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{actual} is not {expected}");
    }

    // import numpy as np; from scipy import stats
    // x = np.array([85.61, 84.17, 86.33, 84.89, 85.61]); mu = 84.32; n = m = 5
    // se = x.std(ddof=1) * np.sqrt(1/n + 1/m); d = x.mean() - mu
    // 2*stats.t.sf(abs(d/se), n-1); d - stats.t.ppf(.95, n-1)*se; (stats.t.ppf(.975, n-1) + stats.t.ppf(.8, n-1))*se
    #[test]
    fn the_test_agrees_with_scipy() {
        let test = Test::new(&OURS, PublishedMean { value: 84.32, runs: 5 }, 1.5).unwrap();
        close(test.difference, 1.0020000000000095);
        close(test.standard_error, 0.5191993836668136);
        close(test.p, 0.12583067186822394);
        close(test.interval.low, -0.10485353753286408);
        close(test.interval.high, 2.108853537532883);
        close(test.detectable, 1.930076815956246);
        assert_eq!(test.seeds_needed(), Some(4));
    }

    #[test]
    fn every_word_is_reached() {
        let test = |shift: f64, margin: f64| {
            let test = Test::new(&OURS.map(|x| x + shift), PUBLISHED, margin).unwrap();
            test.verdict(test.p)
        };
        assert_eq!(test(0.0, 2.0), Verdict::Reproduced);
        assert_eq!(test(0.0, 0.5), Verdict::Undecided);
        assert_eq!(test(-5.0, 0.5), Verdict::Differs);
        assert_eq!(Test::new(&[85.0], PUBLISHED, 0.5), None);
    }

    #[test]
    fn seeds_needed_is_the_first_number_that_fits() {
        for (margin, runs) in [(0.3, 50), (0.5, 50), (1.0, 5), (0.05, 1), (20.0, 1)] {
            let test = Test::new(&OURS, PublishedMean { value: 84.32, runs }, margin).unwrap();
            let half = |n: usize| student_quantile(0.95, n - 1).unwrap() * error_of(test.deviation, n, runs);
            assert_eq!(test.seeds_needed(), (2..=MOST_SEEDS).find(|&n| half(n) <= margin), "{margin} {runs}");
        }
    }

    #[test]
    fn a_margin_is_never_below_two_examples() {
        close(cell_margin(0.5, 139), 2.0 * 100.0 / 139.0);
        close(cell_margin(0.5, 872), 0.5);
    }

    #[test]
    fn values_without_spread_are_decided() {
        let equal = Test::new(&[80.0; 3], PublishedMean { value: 80.0, runs: 5 }, 0.5).unwrap();
        assert_eq!((equal.p, equal.verdict(equal.p)), (1.0, Verdict::Reproduced));
        let other = Test::new(&[80.0; 3], PublishedMean { value: 81.0, runs: 5 }, 0.5).unwrap();
        assert_eq!((other.p, other.verdict(other.p)), (0.0, Verdict::Differs));
    }

    /// Deviations of the eight tasks' scores over seeds, in points.
    const DEVIATIONS: [f64; 8] = [1.0, 0.25, 1.0, 0.15, 0.2, 0.15, 0.2, 1.2];
    const ROWS: usize = 2_000;

    /// Share of simulated rows in which some cell differs, and in which the average is reproduced: n = m = 5 seeds, ours lower by
    /// `lower` points on every task.
    fn simulated(lower: f64) -> (f64, f64) {
        let mut random = SplitMix::new(17);
        let (mut differing, mut reproduced) = (0, 0);
        for _ in 0..ROWS {
            let mut seeds = [0.0; 5];
            let mut published_average = 0.0;
            let mut p_values = Vec::new();
            let mut tests = Vec::new();
            for deviation in DEVIATIONS {
                let published = (0..5).map(|_| deviation * random.normal()).sum::<f64>() / 5.0;
                let ours: Vec<f64> = (0..5).map(|_| deviation * random.normal() - lower).collect();
                seeds.iter_mut().zip(&ours).for_each(|(sum, value)| *sum += value / 8.0);
                published_average += published / 8.0;
                let test = Test::new(&ours, PublishedMean { value: published, runs: 5 }, MARGIN).unwrap();
                p_values.push(test.p);
                tests.push(test);
            }
            let corrected = holm(&p_values);
            let differs = |(test, p): (&Test, &f64)| test.verdict(*p) == Verdict::Differs;
            differing += usize::from(tests.iter().zip(&corrected).any(differs));
            let average = Test::new(&seeds, PublishedMean { value: published_average, runs: 5 }, MARGIN).unwrap();
            reproduced += usize::from(average.verdict(average.p) == Verdict::Reproduced);
        }
        (differing as f64 / ROWS as f64, reproduced as f64 / ROWS as f64)
    }

    #[test]
    fn identical_methods_seldom_differ_and_mostly_reproduce() {
        let (differing, reproduced) = simulated(0.0);
        assert!(differing <= 0.06, "some cell differs in {differing} of the rows");
        assert!(reproduced >= 0.65, "the average is reproduced in {reproduced} of the rows");
    }

    #[test]
    fn half_a_point_less_is_seldom_called_reproduced() {
        let (differing, reproduced) = simulated(0.5);
        assert!(reproduced <= 0.07, "the average is reproduced in {reproduced} of the rows");
        assert!(differing >= 0.85, "found in a cell in {differing} of the rows");
    }
}
