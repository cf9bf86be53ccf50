//! Dropout, residual and LayerNorm as one.

use tch::Tensor;

use crate::error::{as_ptr, out_tensor};
use crate::ops::dropout::Dropout;
use crate::{ffi, nvrtc};

/// Widest row that a warp of the kernel holds.
pub(crate) const MAX_WIDTH: i64 = 1024;

/// `LayerNorm(dropout(x) + residual)` of hidden states `[runs * rows * length, width]`; `norm` is weight and bias, `[width]`.
pub fn drop_add_norm(
    x: &Tensor,
    residual: &Tensor,
    norm: [&Tensor; 2],
    eps: f64,
    dropout: Dropout,
    length: i64,
) -> Tensor {
    let width = x.size().last().copied().unwrap_or(0);
    let is_frozen = norm.iter().all(|part| !part.requires_grad());
    match dropout.rng {
        Some(rng) if is_frozen && nvrtc::supports(x) && width % 8 == 0 && width <= MAX_WIDTH => out_tensor(|out| {
            let functions = ffi::functions()?;
            let call = functions.drop_add_norm;
            let [weight, bias] = norm.map(as_ptr);
            let (x, residual, state) = (as_ptr(x), as_ptr(residual), as_ptr(&rng.state));
            let Dropout { stream, p, .. } = dropout;
            // SAFETY: the tensors outlive the call.
            ffi::check(functions, unsafe { call(x, residual, weight, bias, state, stream, p, eps, length, out) })
        }),
        _ => {
            let sum = dropout.hidden(x, length, 0) + residual;
            sum.layer_norm([width], Some(norm[0]), Some(norm[1]), eps, true)
        }
    }
}
