//! The threshold on SoRA's gates, as released and as the true proximal map (spec §3.4).

use tch::Tensor;

/// The map of the released `SparseAdamW`: subtract τ where x > τ, add τ where x < -τ, then zero where |x| < τ, in that
/// order, so the dead zone is 2τ wide on either side and |x| = τ exactly is left as it is. `tau` is a 0-dim tensor.
pub fn released(x: &Tensor, tau: &Tensor) -> Tensor {
    let low = x.less_tensor(&tau.neg());
    let shrunk = x.where_self(&x.greater_tensor(tau).logical_not(), &(x - tau));
    let shrunk = (x + tau).where_self(&low, &shrunk);
    // NaN is below nothing, so that it stays: a run that diverged must not look pruned.
    let dead = shrunk.abs().less_tensor(tau);
    shrunk.zeros_like().where_self(&dead, &shrunk)
}

/// The proximal map of `τ|x|`: `sign(x) max(|x| - τ, 0)`. `tau` is a 0-dim tensor.
pub fn soft(x: &Tensor, tau: &Tensor) -> Tensor {
    x.sign() * (x.abs() - tau).clamp_min(0.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The released loop as it is written (spec §3.4).
    fn one(x: f32, tau: f32) -> f32 {
        let shrunk = if x > tau { x - tau } else { x };
        let shrunk = if x < -tau { x + tau } else { shrunk };
        if shrunk.abs() >= tau { shrunk } else { 0.0 }
    }

    proptest! {
        #[test]
        fn finite_values_are_those_of_the_released_loop(
            x in prop::collection::vec(-3f32..3.0, 1..20),
            tau in 0f32..1.5,
        ) {
            let mut x = x;
            x.extend([tau, -tau, 2.0 * tau, 0.0, -0.0]);
            let got = Vec::<f32>::try_from(released(&Tensor::from_slice(&x), &Tensor::from(tau))).unwrap();
            let want: Vec<f32> = x.iter().map(|&x| one(x, tau)).collect();
            prop_assert_eq!(got, want);
        }
    }

    #[test]
    fn a_gate_that_is_no_number_stays_one() {
        for map in [released, soft] {
            let got =
                Vec::<f32>::try_from(map(&Tensor::from_slice(&[f32::NAN, 0.1, 3.0]), &Tensor::from(0.5f32))).unwrap();
            assert!(got[0].is_nan() && got[1] == 0.0 && got[2] == 2.5, "{got:?}");
        }
    }
}
