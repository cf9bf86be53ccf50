//! AdaLoRA's smoothed importance and uncertainty (spec §2.3) on flat values, in place, without a read-back.

use tch::Tensor;

use crate::error::{Result, as_ptr};
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
}
