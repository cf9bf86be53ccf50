//! Statistics against SciPy 1.17 / NumPy 2.4. Each expected value has the Python line that made it.

use harness::analysis::stats::{
    bootstrap, holm, mean, median, paired_t, quantile, resolution, sample_std, sign_flip, t_interval,
};
use proptest::prelude::*;

const X: [f64; 5] = [0.71, 0.68, 0.74, 0.70, 0.69];
const Y: [f64; 5] = [0.66, 0.67, 0.70, 0.71, 0.64];

fn close(actual: f64, expected: f64, tolerance: f64) {
    assert!((actual - expected).abs() <= tolerance, "{actual} is not {expected} within {tolerance}");
}

fn differences() -> Vec<f64> {
    X.iter().zip(Y).map(|(x, y)| x - y).collect()
}

#[test]
fn mean_and_deviation() {
    close(mean(&X).unwrap(), 0.704, 1e-15); // np.mean(x)
    close(sample_std(&X).unwrap(), 0.023021728866442666, 1e-15); // np.std(x, ddof=1)
    assert_eq!(sample_std(&[1.0]), None);
    assert_eq!(mean(&[]), None);
}

#[test]
fn quartiles_interpolate_as_numpy_does() {
    let values = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0];
    // np.percentile([3,1,4,1,5,9,2,6], [25, 50, 75])
    assert_eq!(quantile(&values, 0.25), Some(1.75));
    assert_eq!(median(&values), Some(3.5));
    assert_eq!(quantile(&values, 0.75), Some(5.25));
    assert_eq!(median(&[]), None);
}

#[test]
fn t_interval_of_five_seeds() {
    // stats.t.interval(.95, 4, loc=np.mean(x), scale=stats.sem(x))
    let interval = t_interval(&X, 0.95).unwrap();
    close(interval.low, 0.6754147480901298, 1e-9);
    close(interval.high, 0.7325852519098701, 1e-9);
}

#[test]
fn t_quantiles() {
    // [stats.t.ppf(.975, df) for df in (1, 2, 4, 9, 30)]
    let expected = [(1, 12.706204736174694), (2, 4.302652729749462), (4, 2.7764451051977934), (9, 2.262157162798205)];
    for (freedom, quantile) in expected {
        // n values with mean 0 and standard error 1.
        let n = freedom + 1;
        let half = (0.5 * (n * freedom) as f64).sqrt() * (n as f64).sqrt();
        let mut values = vec![0.0; n];
        values[0] = half / (n as f64).sqrt();
        values[1] = -values[0];
        let scale = sample_std(&values).unwrap() / (n as f64).sqrt();
        let interval = t_interval(&values, 0.95).unwrap();
        close(interval.high / scale, quantile, 1e-7);
    }
}

#[test]
fn paired_t_test() {
    // stats.ttest_rel(x, y)
    let test = paired_t(&differences()).unwrap();
    close(test.t, 2.3333333333333335, 1e-9);
    close(test.p, 0.0799596465455817, 1e-9);
    assert_eq!(paired_t(&[0.5, 0.5, 0.5]), None, "equal differences have no spread to test against");
}

#[test]
fn sign_flip_is_exact_for_few_seeds() {
    // stats.permutation_test((x - y,), np.mean, permutation_type='samples', n_resamples=np.inf).pvalue
    assert_eq!(sign_flip(&differences(), 0), Some(0.1875));
    assert_eq!(sign_flip(&[0.5, -0.1, 0.3, 0.8, -0.2, 0.9, 0.4, 0.1], 0), Some(0.0625));
    assert_eq!(sign_flip(&[], 0), None);
}

#[test]
fn sign_flip_draws_for_many() {
    let many: Vec<f64> = (0..16).map(|i| (f64::from(i) * 0.7).sin() + 0.25).collect();
    // d = np.sin(np.arange(16) * .7) + .25
    // stats.permutation_test((d,), np.mean, permutation_type='samples', n_resamples=np.inf).pvalue
    close(sign_flip(&many, 7).unwrap(), 0.068206787109375, 0.01);
    assert_eq!(sign_flip(&many, 7), sign_flip(&many, 7));
}

#[test]
fn holm_steps_down() {
    // By hand: sorted .005*4, .01*3, .03*2, .04*1, then a running maximum.
    let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
    for (actual, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
        close(*actual, expected, 1e-15);
    }
    assert_eq!(holm(&[0.9, 0.8]), vec![1.0, 1.0]);
}

#[test]
fn bootstrap_agrees_with_scipy() {
    let z = [1.1, 1.3, 0.9, 1.2, 1.05, 1.15, 0.95, 1.25, 1.0, 1.4];
    // stats.bootstrap((z,), np.mean, method='percentile', n_resamples=200000, rng=np.random.default_rng(0))
    let interval = bootstrap(&z, mean, 0.95, 20_000, 1).unwrap();
    close(interval.low, 1.04, 0.006);
    close(interval.high, 1.225, 0.006);
    // the same of np.median
    let interval = bootstrap(&z, median, 0.95, 20_000, 1).unwrap();
    close(interval.low, 1.0, 0.026);
    close(interval.high, 1.25, 0.026);
    assert_eq!(bootstrap(&[], mean, 0.95, 10, 1), None);
}

#[test]
fn the_resolution_of_rte_is_072_points() {
    close(resolution(139).unwrap(), 0.7194, 1e-4);
    assert_eq!(resolution(0), None);
}

proptest! {
    #[test]
    fn holm_never_lowers_and_keeps_the_order(p in prop::collection::vec(0.0f64..=1.0, 1..12)) {
        let adjusted = holm(&p);
        for i in 0..p.len() {
            prop_assert!(adjusted[i] >= p[i] && adjusted[i] <= 1.0);
            for j in 0..p.len() {
                prop_assert!(p[i] > p[j] || adjusted[i] <= adjusted[j]);
            }
        }
    }

    #[test]
    fn a_sign_flip_p_is_a_probability_and_symmetric(d in prop::collection::vec(-5.0f64..5.0, 1..14), seed: u64) {
        let p = sign_flip(&d, seed).unwrap();
        let negated: Vec<f64> = d.iter().map(|v| -v).collect();
        prop_assert!(p > 0.0 && p <= 1.0);
        prop_assert!((p - sign_flip(&negated, seed).unwrap()).abs() < 0.02);
    }

    #[test]
    fn an_interval_holds_its_mean(v in prop::collection::vec(-10.0f64..10.0, 2..8)) {
        let interval = t_interval(&v, 0.95).unwrap();
        let centre = mean(&v).unwrap();
        prop_assert!(interval.low - 1e-9 <= centre && centre <= interval.high + 1e-9);
    }
}
