//! The threshold on SoRA's gates, as released and as the true proximal map (spec §3.4).

use tch::Tensor;

/// The map of the released `SparseAdamW`: subtract τ where x > τ, add τ where x < -τ, then zero where |x| < τ, in that
/// order, so the dead zone is 2τ wide on either side and |x| = τ exactly is left as it is. `tau` is a 0-dim tensor.
pub fn released(x: &Tensor, tau: &Tensor) -> Tensor {
    let low = x.less_tensor(&tau.neg());
    let shrunk = x.where_self(&x.greater_tensor(tau).logical_not(), &(x - tau));
    let shrunk = (x + tau).where_self(&low, &shrunk);
    let alive = shrunk.abs().greater_equal_tensor(tau);
    shrunk.where_self(&alive, &shrunk.zeros_like())
}

/// The proximal map of `τ|x|`: `sign(x) max(|x| - τ, 0)`. `tau` is a 0-dim tensor.
pub fn soft(x: &Tensor, tau: &Tensor) -> Tensor {
    x.sign() * (x.abs() - tau).clamp_min(0.0)
}
