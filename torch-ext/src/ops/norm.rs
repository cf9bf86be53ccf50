//! Dropout, residual and LayerNorm as one operation.

use std::ffi::c_int;

use tch::Tensor;

use crate::error::{as_ptr, out_tensor};
use crate::ffi::Kernels;
use crate::nvrtc;
use crate::ops::dropout::{Dropout, DropoutRng};

unsafe extern "C" {
    fn rb_max_norm_width() -> c_int;
}

/// Largest width that the kernels take.
pub(crate) fn max_width() -> i64 {
    // SAFETY: a plain integer crosses.
    unsafe { rb_max_norm_width() }.into()
}

/// Arguments of `LayerNorm(dropout(x) + residual)`.
pub(crate) struct DropAddNorm<'a> {
    x: &'a Tensor,
    residual: &'a Tensor,
    norm: [&'a Tensor; 2],
    eps: f64,
    dropout: Dropout<'a>,
    length: i64,
}

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
    let has_width = width % 8 == 0 && width <= max_width();
    let args = DropAddNorm { x, residual, norm, eps, dropout, length };
    match (dropout.rng, nvrtc::kernels(x)) {
        (Some(rng), Some(kernels)) if is_frozen && has_width => args.by(kernels, rng),
        _ => args.reference(),
    }
}

impl DropAddNorm<'_> {
    fn by(&self, kernels: &Kernels, rng: &DropoutRng) -> Tensor {
        let [x, residual, weight, bias, state] =
            [self.x, self.residual, self.norm[0], self.norm[1], &rng.state].map(as_ptr);
        let Dropout { stream, p, .. } = self.dropout;
        let call = kernels.drop_add_norm;
        out_tensor(|out| {
            // SAFETY: the tensors outlive the call.
            kernels.check(unsafe { call(x, residual, weight, bias, state, stream, p, self.eps, self.length, out) })
        })
    }

    fn reference(&self) -> Tensor {
        let sum = self.dropout.hidden(self.x, self.length, 0) + self.residual;
        sum.layer_norm(self.norm[0].size(), Some(self.norm[0]), Some(self.norm[1]), self.eps, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::{KINDS, compare, dropout_rng, in_every_schedule, random};

    #[test]
    fn the_kernels_compute_what_the_reference_computes() {
        in_every_schedule(|kernels| {
            for (kind, bound) in KINDS {
                for (runs, rows, length, width) in [(1, 2, 9, 16), (2, 3, 5, 384), (1, 2, 20, 768), (1, 1, 3, 1024)] {
                    let rng = dropout_rng(runs);
                    let dropout = Dropout { rng: Some(&rng), stream: 5, p: 0.1 };
                    let frozen = [random(&[width]), random(&[width])].map(|part| part.to_kind(kind));
                    let arguments = |x: &[Tensor], work: &dyn Fn(DropAddNorm) -> Tensor| {
                        let [weight, bias] = frozen.each_ref().map(|part| part.to_kind(x[0].kind()));
                        let (x, residual, norm) = (&x[0], &x[1], [&weight, &bias]);
                        work(DropAddNorm { x, residual, norm, eps: 1e-7, dropout, length })
                    };
                    let inputs = [0, 1].map(|_| random(&[runs * rows * length, width]));
                    compare(
                        &format!("norm of {width}"),
                        (kind, bound),
                        &inputs,
                        |x| arguments(x, &|norm| norm.by(kernels, &rng)),
                        |x| arguments(x, &|norm| norm.reference()),
                    );
                }
            }
        });
    }
}
