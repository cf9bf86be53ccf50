//! A linear with a low-rank branch.

use std::ffi::{c_int, c_void};
use std::sync::atomic::Ordering;

use tch::Tensor;

use crate::device::IS_TF32_ALLOWED;
use crate::error::{as_ptr, check, out_tensor};
use crate::ffi::Kernels;
use crate::nvrtc;

unsafe extern "C" {
    fn rb_lora_linear(
        x: *const c_void,
        weight: *const c_void,
        bias: *const c_void,
        lora_a: *const c_void,
        scaled_b: *const c_void,
        out: *mut *mut c_void,
    ) -> c_int;
}

/// `x W^T + b + (x A^T) U^T`, `[rows, d_out]`, for `x` `[rows, d_in]`; A is `[r, d_in]` and U `[d_out, r]`.
/// For stacked runs A is `[runs, r, d_in]`, U `[runs, d_out, r]`, and `x` holds their rows run by run.
pub fn lora_linear(x: &Tensor, [weight, bias]: [&Tensor; 2], [lora_a, scaled_b]: [&Tensor; 2]) -> Tensor {
    let tensors = [x, weight, bias, lora_a, scaled_b];
    // Products in TF32 are quicker.
    let kernels = nvrtc::float32_kernels(x).filter(|_| !IS_TF32_ALLOWED.load(Ordering::Relaxed));
    let widths = [weight.size()[0], weight.size()[1], lora_a.size()[lora_a.dim() - 2]];
    match kernels {
        Some(kernels) if x.numel() > 0 && widths.iter().all(|width| width % 4 == 0) => by_3xf16(kernels, tensors),
        _ => by_libtorch(tensors),
    }
}

/// Wide products on tensor cores, of three in float16 each (ADR 0019).
fn by_3xf16(kernels: &Kernels, tensors: [&Tensor; 5]) -> Tensor {
    let [x, weight, bias, lora_a, scaled_b] = tensors.map(as_ptr);
    let call = kernels.lora_linear_3xf16;
    // SAFETY: the tensors outlive the call.
    out_tensor(|out| kernels.check(unsafe { call(x, weight, bias, lora_a, scaled_b, out) }))
}

fn by_libtorch(tensors: [&Tensor; 5]) -> Tensor {
    let [x, weight, bias, lora_a, scaled_b] = tensors.map(as_ptr);
    // SAFETY: the tensors outlive the call.
    out_tensor(|out| check(unsafe { rb_lora_linear(x, weight, bias, lora_a, scaled_b, out) }))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::emulator::{in_every_schedule, random};

    #[test]
    fn values_and_gradients_are_those_of_the_plain_tensors() {
        for (runs, kind, bound) in [(1, Kind::Double, 1e-12), (3, Kind::Double, 1e-12), (1, Kind::Float, 1e-5)] {
            let random = |shape: &[i64]| Tensor::randn(shape, (kind, Device::Cpu));
            let (weight, bias) = (random(&[7, 5]).set_requires_grad(true), random(&[7]).set_requires_grad(true));
            let x = random(&[runs * 4, 5]).set_requires_grad(true);
            let leading: &[i64] = if runs == 1 { &[] } else { &[3] };
            let a = random(&[leading, &[2, 5]].concat()).set_requires_grad(true);
            let b = random(&[leading, &[7, 2]].concat()).set_requires_grad(true);
            let factor = random(&[runs * 4, 7]);
            let plain = || {
                let stack = if runs == 1 { x.shallow_clone() } else { x.view([runs, 4, 5]) };
                let branch = stack.matmul(&a.transpose(-1, -2)).matmul(&b.transpose(-1, -2)).reshape([runs * 4, 7]);
                x.linear(&weight, Some(&bias)) + branch
            };
            let inputs = [&x, &a, &b, &weight, &bias];
            let gradients = |y: Tensor| Tensor::run_backward(&[(y * &factor).sum(None::<Kind>)], &inputs, false, false);
            let y = lora_linear(&x, [&weight, &bias], [&a, &b]);
            assert!((&y - plain()).abs().max().double_value(&[]) < bound);
            for (got, want) in gradients(y).iter().zip(gradients(plain())) {
                assert!((got - want).abs().max().double_value(&[]) < bound);
            }
        }
    }

    /// Products of three in float16 have the error of the factors' bits, 22 to 24 of them, and not more.
    #[test]
    fn products_3xf16_are_near_those_of_doubles() {
        in_every_schedule(|kernels| {
            for (runs, rows, [d_in, d_out], r, spread) in [
                (1, 40, [64, 96], 8, 0.0),
                (1, 30, [768, 64], 12, 6.0),
                (1, 7, [36, 20], 4, 0.0),
                (3, 8, [48, 32], 4, 2.0),
            ] {
                // Rows and columns of very different sizes, and a row of zeros.
                let wide = |shape: &[i64; 2], by: f64| random(shape) * (random(&[shape[0], 1]) * by).exp();
                let x = wide(&[runs * rows, d_in], spread) * (random(&[1, d_in]) * (spread / 3.0)).exp();
                let _ = x.get(0).zero_();
                let leading: &[i64] = if runs == 1 { &[] } else { &[runs] };
                let [a, b] = [[r, d_in], [d_out, r]].map(|shape| random(&[leading, &shape].concat()));
                let given = [x, wide(&[d_out, d_in], spread / 3.0) * 0.05, random(&[d_out]), a, b];
                let factor = wide(&[runs * rows, d_out], spread);
                let results = |kind: Kind, linear: &dyn Fn([&Tensor; 5]) -> Tensor| {
                    let leaves = given.each_ref().map(|x| x.to_kind(kind).copy().set_requires_grad(true));
                    let y = linear(leaves.each_ref());
                    let loss = (&y * &factor.to_kind(kind)).sum(None::<Kind>);
                    let grads = Tensor::run_backward(&[loss], &[&leaves[0]], false, false);
                    [y.detach(), grads[0].shallow_clone()].map(|x| x.to_kind(Kind::Double))
                };
                let want = results(Kind::Double, &by_libtorch);
                let got = results(Kind::Float, &|tensors| by_3xf16(kernels, tensors));
                for (index, (got, want)) in got.iter().zip(&want).enumerate() {
                    // Relative to the sizes of what is summed.
                    let sizes = want.square().mean_dim(-1, true, None::<Kind>).sqrt() + 1e-300;
                    let error = ((got - want).abs() / sizes).max().double_value(&[]);
                    assert!(error < 5e-6, "{runs} runs of {rows} x {d_in} -> {d_out}, result {index}: {error:.1e}");
                }
            }
        });
    }

    /// Against the identity a product gives back the sum of a value's two parts: as near to it as ADR 0019 says.
    #[test]
    fn two_values_in_float16_hold_one_in_float32() {
        const WIDTH: i64 = 64;
        in_every_schedule(|kernels| {
            let x = random(&[32, WIDTH]) * (random(&[32, WIDTH]) * 8.0).exp();
            // The largest value of a row may be any below a power of two.
            let _ = x.get(0).narrow(0, 0, 1).fill_(1.0 - f64::from(f32::EPSILON) / 2.0);
            let _ = x.get(0).narrow(0, 1, WIDTH - 1).clamp_(-0.5, 0.5);
            let like = (Kind::Float, Device::Cpu);
            let zeros = |shape: [i64; 2]| Tensor::zeros(shape, like);
            let given = [Tensor::eye(WIDTH, like), Tensor::zeros([WIDTH], like), zeros([4, WIDTH]), zeros([WIDTH, 4])];
            let [weight, bias, a, b] = given.each_ref();
            let [x, y] =
                [x.shallow_clone(), by_3xf16(kernels, [&x, weight, bias, a, b])].map(|x| x.to_kind(Kind::Double));
            let largest = x.abs().amax(-1, true);
            let bound = (x.abs() * 2f64.powi(-23)).maximum(&(largest * 2f64.powi(-39)));
            let excess = ((y - x).abs() / bound).max().double_value(&[]);
            assert!(excess <= 1.0, "{excess} times the bound");
        });
    }
}
