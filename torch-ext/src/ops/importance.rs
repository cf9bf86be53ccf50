//! AdaLoRA's smoothed importance and uncertainty (spec §2.3) on flat values, in place, without a read-back; and the scores of
//! components that are made of them.

use std::ffi::{c_int, c_longlong};

use tch::{Kind, Tensor};

use crate::error::{Result, as_ptr, out_tensor};
use crate::ffi::Kernels;
use crate::nvrtc;

/// Updates `averages`, Ī and Ū, by `of`, w and g, all `[n]`: `I = |w g|; Ī ← β1 Ī + (1-β1) I; Ū ← β2 Ū + (1-β2) |I - Ī|`.
///
/// # Errors
/// A failure on the device.
pub fn update(of: [&Tensor; 2], averages: [&Tensor; 2], betas: [f64; 2]) -> Result<()> {
    match nvrtc::float32_kernels(of[0]) {
        Some(kernels) => update_by(kernels, of, averages, betas),
        None => {
            update_reference(of, averages, betas);
            Ok(())
        }
    }
}

fn update_by(kernels: &Kernels, of: [&Tensor; 2], averages: [&Tensor; 2], [beta1, beta2]: [f64; 2]) -> Result<()> {
    let tensors = [of[0], of[1], averages[0], averages[1]].map(as_ptr);
    // SAFETY: the tensors outlive the call.
    kernels.check(unsafe { (kernels.importance)(tensors.as_ptr(), beta1, beta2) })
}

fn update_reference([values, grad]: [&Tensor; 2], [average, uncertainty]: [&Tensor; 2], [beta1, beta2]: [f64; 2]) {
    let now = values.g_mul(grad).abs_();
    let _ = average.shallow_clone().lerp_(&now, 1.0 - beta1);
    let _ = uncertainty.shallow_clone().lerp_(&(now - average).abs_(), 1.0 - beta2);
}

/// Modules of one shape.
pub struct ScoredShape {
    /// Where the values of A `[modules, r, d_in]`, B `[modules, d_out, r]` and E `[modules, r]` begin.
    pub starts: [i64; 3],
    /// Modules.
    pub modules: i64,
    /// d_in and d_out.
    pub widths: [i64; 2],
}

/// `s(E) + mean s(A) + mean s(B)` of every component, `[components]`, shape by shape, with `s` the product of average and uncertainty.
pub fn scores(averages: [&Tensor; 2], shapes: &[ScoredShape], rank: i64) -> Tensor {
    match nvrtc::float32_kernels(averages[0]) {
        Some(kernels) => scores_by(kernels, averages, shapes, rank),
        None => reference_scores(averages, shapes, rank),
    }
}

fn scores_by(kernels: &Kernels, averages: [&Tensor; 2], shapes: &[ScoredShape], rank: i64) -> Tensor {
    let numbers_of = |ScoredShape { starts: [a, b, gate], modules, widths: [d_in, d_out] }: &ScoredShape| {
        [*a, *b, *gate, *modules, *d_in, *d_out]
    };
    let numbers: Vec<c_longlong> = shapes.iter().flat_map(numbers_of).collect();
    let [average, uncertainty] = averages.map(as_ptr);
    let (call, count) = (kernels.component_scores, shapes.len() as c_int);
    // SAFETY: as many numbers as shapes have; everything outlives the call.
    out_tensor(|out| kernels.check(unsafe { call(average, uncertainty, numbers.as_ptr(), count, rank as c_int, out) }))
}

fn reference_scores([average, uncertainty]: [&Tensor; 2], shapes: &[ScoredShape], rank: i64) -> Tensor {
    let scores = average * uncertainty;
    let of_shape = |ScoredShape { starts, modules, widths: [d_in, d_out] }: &ScoredShape| {
        let part = |at: usize, size: &[i64]| scores.narrow(0, starts[at], size.iter().product()).view(size);
        let of_a = part(0, &[*modules, rank, *d_in]).mean_dim(-1, false, None::<Kind>);
        let of_b = part(1, &[*modules, *d_out, rank]).mean_dim(1, false, None::<Kind>);
        (of_a + of_b + part(2, &[*modules, rank])).flatten(0, -1)
    };
    Tensor::cat(&shapes.iter().map(of_shape).collect::<Vec<_>>(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::{in_every_schedule, random};

    #[test]
    fn the_kernel_computes_what_the_reference_computes() {
        in_every_schedule(|kernels| {
            let start = [0, 1, 2, 3].map(|_| random(&[70_001]));
            let [want, got] = [None, Some(kernels)].map(|kernels| {
                let [values, grad, average, uncertainty] = start.each_ref().map(Tensor::copy);
                let (of, averages, betas) = ([&values, &grad], [&average, &uncertainty], [0.85, 0.9]);
                match kernels {
                    Some(kernels) => update_by(kernels, of, averages, betas).unwrap(),
                    None => update_reference(of, averages, betas),
                }
                [average, uncertainty]
            });
            for (want, got) in want.iter().zip(&got) {
                assert!((got - want).abs().max().double_value(&[]) < 1e-6);
            }
        });
    }

    #[test]
    fn scores_are_those_of_the_reference() {
        in_every_schedule(|kernels| {
            let shape = |start: i64, modules: i64, [d_in, d_out]: [i64; 2]| {
                let b = start + modules * 12 * d_in;
                ScoredShape { starts: [start, b, b + modules * 12 * d_out], modules, widths: [d_in, d_out] }
            };
            let shapes = [shape(5, 2, [70, 33]), shape(5 + 2 * 12 * (70 + 33 + 1), 1, [32, 100])];
            let averages = [0, 1].map(|_| random(&[5 + 12 * (2 * (70 + 33 + 1) + 32 + 100 + 1)]));
            let want = reference_scores(averages.each_ref(), &shapes, 12);
            let got = scores_by(kernels, averages.each_ref(), &shapes, 12);
            assert_eq!(got.size(), [36]);
            assert!((got - want).abs().max().double_value(&[]) < 1e-6);
        });
    }
}
