//! Clipping and AdamW on flat values, in place, without a read-back.

use std::ffi::c_int;

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

/// Gradients of one run.
pub struct Clipped {
    /// Each `[n]`.
    pub grads: Vec<Tensor>,
    /// Bound of their joint norm.
    pub bound: f64,
}

/// The joint norm of every run's gradients and `min(1, bound / (norm + 1e-6))`, `[runs, 2]`.
pub fn norms_and_factors(runs: &[Clipped]) -> Tensor {
    let kernels = runs.first().and_then(|run| nvrtc::float32_kernels(run.grads.first()?));
    match kernels {
        Some(kernels) => norms_and_factors_by(kernels, runs),
        None => Tensor::stack(&runs.iter().map(reference_norm_and_factor).collect::<Vec<_>>(), 0),
    }
}

fn norms_and_factors_by(kernels: &Kernels, runs: &[Clipped]) -> Tensor {
    let grads: Vec<_> = runs.iter().flat_map(|run| &run.grads).map(as_ptr).collect();
    let counts: Vec<c_int> = runs.iter().map(|run| run.grads.len() as c_int).collect();
    let bounds: Vec<f64> = runs.iter().map(|run| run.bound).collect();
    let call = kernels.clip;
    // SAFETY: as many tensors and numbers as are said; they outlive the call.
    let clip = |out| unsafe { call(grads.as_ptr(), counts.as_ptr(), bounds.as_ptr(), runs.len() as _, out) };
    out_tensor(|out| kernels.check(clip(out)))
}

fn reference_norm_and_factor(run: &Clipped) -> Tensor {
    let squares: Vec<Tensor> = run.grads.iter().map(|grad| grad.square().sum(None::<Kind>)).collect();
    let norm = Tensor::stack(&squares, 0).sum(None::<Kind>).sqrt();
    let factor = (&norm + 1e-6).reciprocal().g_mul_scalar_(run.bound).clamp_max(1.0);
    Tensor::stack(&[norm, factor], 0)
}

/// One step of AdamW.
pub struct Update {
    /// `[n]`, overwritten.
    pub values: Tensor,
    /// `[n]`, multiplied by the factor first.
    pub grad: Tensor,
    /// First and second moments, `[n]`, overwritten.
    pub moments: [Tensor; 2],
    /// Decay factor, step size and root factor of every step, `[steps, 3]`.
    pub table: Tensor,
    /// The step, from 0, `[1]`, int64.
    pub step: Tensor,
    /// Factor of the gradient, `[]`.
    pub factor: Tensor,
    /// Decay of each moment.
    pub betas: [f64; 2],
    /// Number added to the root.
    pub eps: f64,
    /// Place of the decay factor.
    pub decay: Decay,
}

/// Overwrites values and moments of every update: of all together in one launch.
///
/// # Errors
/// A failure on the device.
pub fn apply(updates: &[Update]) -> Result<()> {
    match updates.first().and_then(|update| nvrtc::float32_kernels(&update.values)) {
        Some(kernels) => apply_by(kernels, updates),
        None => {
            updates.iter().for_each(Update::apply_reference);
            Ok(())
        }
    }
}

fn apply_by(kernels: &Kernels, updates: &[Update]) -> Result<()> {
    let tensors_of = |update: &Update| {
        let Update { values, grad, moments: [first, second], table, step, factor, .. } = update;
        [values, grad, first, second, table, step, factor].map(as_ptr)
    };
    let numbers_of = |update: &Update| [update.betas[0], update.betas[1], update.eps, f64::from(update.decay as c_int)];
    let tensors: Vec<_> = updates.iter().flat_map(tensors_of).collect();
    let numbers: Vec<f64> = updates.iter().flat_map(numbers_of).collect();
    // SAFETY: as many tensors and numbers as updates have; they outlive the call.
    kernels.check(unsafe { (kernels.adamw)(tensors.as_ptr(), numbers.as_ptr(), updates.len() as _) })
}

impl Update {
    fn apply_reference(&self) {
        let row = self.table.index_select(0, &self.step).squeeze_dim(0).unbind(0);
        let (decay, size, root) = (&row[0], &row[1], &row[2]);
        let [beta1, beta2] = self.betas;
        let [mut first, mut second] = self.moments.each_ref().map(Tensor::shallow_clone);
        let (mut values, mut grad) = (self.values.shallow_clone(), self.grad.shallow_clone());
        let _ = grad.g_mul_(&self.factor);
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

    /// Values of one tensor: more than one block's, and than one turn of all blocks where there are many tensors.
    const COUNT: i64 = 70_001;

    /// A run's two tensors, the second shorter: values, gradient and moments. Second moments start at zero, so that a rounded decay
    /// is seen.
    struct Run {
        tensors: [[Tensor; 4]; 2],
        bound: f64,
        decay: Decay,
    }

    impl Run {
        fn draw((decay, bound, scale): (Decay, f64, f64)) -> Self {
            let of = |count: i64| {
                let zeros = Tensor::zeros([count], (Kind::Float, Device::Cpu));
                [random(&[count]), random(&[count]) * scale, random(&[count]), zeros]
            };
            Run { tensors: [COUNT, 7].map(of), bound, decay }
        }

        fn copy(&self) -> Self {
            Run { tensors: self.tensors.each_ref().map(|all| all.each_ref().map(Tensor::copy)), ..*self }
        }

        fn clipped(&self) -> Clipped {
            Clipped {
                grads: self.tensors.iter().map(|[_, grad, ..]| grad.shallow_clone()).collect(),
                bound: self.bound,
            }
        }

        fn updates(&self, factor: &Tensor) -> Vec<Update> {
            let of = |tensors: &[Tensor; 4]| {
                let [values, grad, first, second] = tensors.each_ref().map(Tensor::shallow_clone);
                Update {
                    values,
                    grad,
                    moments: [first, second],
                    table: Tensor::from_slice(&[0.5f32, 0.5, 0.5, 0.9, 0.1, 1.5]).view([2, 3]),
                    step: Tensor::from_slice(&[1i64]),
                    factor: factor.shallow_clone(),
                    betas: [0.9, 0.999],
                    eps: 1e-8,
                    decay: self.decay,
                }
            };
            self.tensors.iter().map(of).collect()
        }
    }

    /// Norms and factors, then every tensor after one step.
    fn step(start: &[Run], kernels: Option<&Kernels>) -> Vec<Tensor> {
        let runs: Vec<Run> = start.iter().map(Run::copy).collect();
        let clipped: Vec<Clipped> = runs.iter().map(Run::clipped).collect();
        let both =
            kernels.map_or_else(|| norms_and_factors(&clipped), |kernels| norms_and_factors_by(kernels, &clipped));
        let of_run = |(run, both): (&Run, Tensor)| run.updates(&both.get(1));
        let updates: Vec<Update> = runs.iter().zip(both.unbind(0)).flat_map(of_run).collect();
        kernels.map_or_else(|| apply(&updates), |kernels| apply_by(kernels, &updates)).unwrap();
        std::iter::once(both).chain(runs.into_iter().flat_map(|run| run.tensors).flatten()).collect()
    }

    #[test]
    fn the_kernels_compute_what_the_reference_computes() {
        in_every_schedule(|kernels| {
            let settings = [(Decay::None, 10.0, 1.0), (Decay::Before, 1e9, 1e-3), (Decay::After, 10.0, 1.0)];
            let runs = settings.map(Run::draw);
            for (index, (want, got)) in step(&runs, None).iter().zip(step(&runs, Some(kernels))).enumerate() {
                // Values near zero are differences of larger ones.
                let error = ((got - want).abs() / (want.abs() + want.abs().mean(None::<Kind>))).max().double_value(&[]);
                assert!(error < 5e-6, "result {index}: {error:.1e}");
            }
            let broken = Clipped { grads: vec![Tensor::from_slice(&[1.0f32, f32::NAN])], bound: 1.0 };
            assert_eq!(norms_and_factors_by(kernels, &[broken]).isnan().all().int64_value(&[]), 1);
        });
    }

    /// More tensors than a launch takes.
    #[test]
    fn runs_beyond_a_launch_are_updated_too() {
        in_every_schedule(|kernels| {
            let runs: Vec<Run> = (0..140)
                .map(|run| {
                    let one = |value: f64| Tensor::from_slice(&[value as f32]);
                    let tensors = [0, 1].map(|at| [1.0, f64::from(run + at), 0.1, 0.1].map(one));
                    Run { tensors, bound: f64::from(1 + run % 3), decay: Decay::Before }
                })
                .collect();
            for (want, got) in step(&runs, None).iter().zip(step(&runs, Some(kernels))) {
                assert!((got - want).abs().max().double_value(&[]) < 1e-4);
            }
        });
    }
}
