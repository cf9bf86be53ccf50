//! Clipping and AdamW on flat values, in place, without a read-back.

use tch::{Kind, Tensor};

use crate::error::{Result, as_ptr, out_tensor};
use crate::ffi::Kernels;
use crate::nvrtc;

/// Place of decoupled weight decay, by its number in `kernels/adamw.cu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// No decay.
    None = 0,
    /// Before the update.
    Before = 1,
    /// After the update.
    After = 2,
}

/// The joint norm of gradients and `min(1, bound / (norm + 1e-6))`, `[2]`.
pub fn norm_and_factor(grads: &[Tensor], bound: f64) -> Tensor {
    if let Some(kernels) = nvrtc::float32_kernels(&grads[0]) {
        return norm_and_factor_by(kernels, grads, bound);
    }
    reference_norm_and_factor(grads, bound)
}

fn norm_and_factor_by(kernels: &Kernels, grads: &[Tensor], bound: f64) -> Tensor {
    let pointers: Vec<_> = grads.iter().map(as_ptr).collect();
    // SAFETY: as many tensors as are said; they outlive the call.
    out_tensor(|out| kernels.check(unsafe { (kernels.clip)(pointers.as_ptr(), pointers.len() as _, bound, out) }))
}

fn reference_norm_and_factor(grads: &[Tensor], bound: f64) -> Tensor {
    let squares: Vec<Tensor> = grads.iter().map(|grad| grad.square().sum(None::<Kind>)).collect();
    let norm = Tensor::stack(&squares, 0).sum(None::<Kind>).sqrt();
    let factor = (&norm + 1e-6).reciprocal().g_mul_scalar_(bound).clamp_max(1.0);
    Tensor::stack(&[norm, factor], 0)
}

/// One step of AdamW.
pub struct Update<'a> {
    /// `[n]`, overwritten.
    pub values: &'a Tensor,
    /// `[n]`, multiplied by the factor first.
    pub grad: &'a Tensor,
    /// First and second moments, `[n]`, overwritten.
    pub moments: [&'a Tensor; 2],
    /// Decay factor, step size and root factor of every step, `[steps, 3]`.
    pub table: &'a Tensor,
    /// The step, from 0, `[1]`, int64.
    pub step: &'a Tensor,
    /// Factor of the gradient, `[]`.
    pub factor: &'a Tensor,
    /// Decay of each moment.
    pub betas: [f64; 2],
    /// Number added to the root.
    pub eps: f64,
    /// Place of the decay factor.
    pub decay: Decay,
}

impl Update<'_> {
    /// Overwrites values and moments.
    ///
    /// # Errors
    /// A failure on the device.
    pub fn apply(&self) -> Result<()> {
        match nvrtc::float32_kernels(self.values) {
            Some(kernels) => self.apply_by(kernels),
            None => {
                self.apply_reference();
                Ok(())
            }
        }
    }

    fn apply_by(&self, kernels: &Kernels) -> Result<()> {
        let Update { values, grad, moments: [first, second], table, step, factor, betas, eps, decay } = self;
        let tensors = [values, grad, first, second, table, step, factor].map(|tensor| as_ptr(tensor));
        // SAFETY: the tensors outlive the call.
        kernels.check(unsafe { (kernels.adamw)(tensors.as_ptr(), betas[0], betas[1], *eps, *decay as _) })
    }

    fn apply_reference(&self) {
        let row = self.table.index_select(0, self.step).squeeze_dim(0).unbind(0);
        let (decay, size, root) = (&row[0], &row[1], &row[2]);
        let [beta1, beta2] = self.betas;
        let [mut first, mut second] = self.moments.map(Tensor::shallow_clone);
        let (mut values, mut grad) = (self.values.shallow_clone(), self.grad.shallow_clone());
        let _ = grad.g_mul_(self.factor);
        if self.decay == Decay::Before {
            let _ = values.g_mul_(decay);
        }
        let _ = first.lerp_(&grad, 1.0 - beta1);
        let _ = second.g_mul_scalar_(beta2).g_add_(&(grad.square() * (1.0 - beta2)));
        let denominator = second.sqrt().g_mul(root).g_add_scalar_(self.eps);
        let _ = values.g_sub_(&first.g_mul(size).g_div_(&denominator));
        if self.decay == Decay::After {
            let _ = values.g_mul_(decay);
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::emulator::{in_every_schedule, random};

    const COUNT: i64 = 70_001;

    fn step(start: &[Tensor; 4], (decay, bound): (Decay, f64), kernels: Option<&Kernels>) -> [Tensor; 5] {
        let [values, grad, first, second] = start.each_ref().map(Tensor::copy);
        let grads = [grad.shallow_clone(), &values * 2.0];
        let both = match kernels {
            Some(kernels) => norm_and_factor_by(kernels, &grads, bound),
            None => reference_norm_and_factor(&grads, bound),
        };
        let update = Update {
            values: &values,
            grad: &grad,
            moments: [&first, &second],
            table: &Tensor::from_slice(&[0.5f32, 0.5, 0.5, 0.9, 0.1, 1.5]).view([2, 3]),
            step: &Tensor::from_slice(&[1i64]),
            factor: &both.get(1),
            betas: [0.9, 0.999],
            eps: 1e-8,
            decay,
        };
        match kernels {
            Some(kernels) => update.apply_by(kernels).unwrap(),
            None => update.apply_reference(),
        }
        [both, values, grad, first, second]
    }

    #[test]
    fn the_kernels_compute_what_the_reference_computes() {
        in_every_schedule(|kernels| {
            for (decay, bound, scale) in
                [(Decay::None, 10.0, 1.0), (Decay::Before, 1e9, 1e-3), (Decay::After, 10.0, 1.0)]
            {
                // Second moments from zero, so that a rounded decay is seen.
                let zeros = || Tensor::zeros([COUNT], (Kind::Float, Device::Cpu));
                let start = [random(&[COUNT]), random(&[COUNT]) * scale, random(&[COUNT]), zeros()];
                let (want, got) = (step(&start, (decay, bound), None), step(&start, (decay, bound), Some(kernels)));
                for (index, (want, got)) in want.iter().zip(&got).enumerate() {
                    // Values near zero are differences of larger ones.
                    let error =
                        ((got - want).abs() / (want.abs() + want.abs().mean(None::<Kind>))).max().double_value(&[]);
                    assert!(error < 5e-6, "{decay:?}, result {index}: {error:.1e}");
                }
            }
            let broken = Tensor::from_slice(&[1.0f32, f32::NAN]);
            assert_eq!(norm_and_factor_by(kernels, &[broken], 1.0).isnan().all().int64_value(&[]), 1);
        });
    }
}
