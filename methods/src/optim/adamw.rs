//! AdamW on a flat group and the linear schedule, without a read-back.

use tch::Tensor;
use torch_ext::ops::adamw::{Decay, Update};

use crate::error::{Error, Result};
use crate::optim::config::{AdamWOptions, DecayOrder};
use crate::optim::step_counter::StepCounter;

/// AdamW over one flat tensor. Its per-step scalars lie in a table on the tensor's device, so a step reads nothing back.
pub struct AdamW {
    options: AdamWOptions,
    first: Tensor,
    second: Tensor,
    /// `[steps, 3]`: decay factor, step size, factor of the root.
    coefficients: Tensor,
    steps: usize,
}

impl AdamW {
    /// For values shaped like `like`, planned for `steps` steps whose rate is `options.lr * factor(t)`.
    pub fn new(like: &Tensor, options: AdamWOptions, steps: usize, factor: impl Fn(usize) -> f64) -> Self {
        let rows: Vec<f64> = (0..steps).flat_map(|t| coefficients(&options, t, factor(t))).collect();
        let coefficients = Tensor::from_slice(&rows).view([-1, 3]).to_kind(like.kind()).to_device(like.device());
        AdamW { options, first: like.detach().zeros_like(), second: like.detach().zeros_like(), coefficients, steps }
    }

    /// The update of `values` with `grad`, which is multiplied by `factor` (`[]`) first. [`torch_ext::ops::adamw::apply`] makes it.
    ///
    /// # Errors
    /// A step past the planned ones.
    pub fn update(&self, values: &Tensor, grad: Tensor, factor: &Tensor, step: &StepCounter) -> Result<Update> {
        if step.number >= self.steps {
            return Err(Error::PastTheEnd { step: step.number, planned: self.steps });
        }
        let AdamWOptions { beta1, beta2, eps, weight_decay, order, .. } = self.options;
        let decay = match order {
            _ if weight_decay == 0.0 => Decay::None,
            DecayOrder::Before => Decay::Before,
            DecayOrder::After => Decay::After,
        };
        Ok(Update {
            values: values.detach(),
            grad,
            moments: [&self.first, &self.second].map(Tensor::shallow_clone),
            table: self.coefficients.shallow_clone(),
            step: step.on_device().shallow_clone(),
            factor: factor.shallow_clone(),
            betas: [beta1, beta2],
            eps,
            decay,
        })
    }

    /// First and second moments, for saving.
    pub fn state(&self) -> [(&'static str, &Tensor); 2] {
        [("first", &self.first), ("second", &self.second)]
    }

    /// Takes a moment back; `false` when the name or the size is not one of this optimiser's.
    pub fn load(&mut self, moment: &str, value: &Tensor) -> bool {
        let target = match moment {
            "first" => &mut self.first,
            "second" => &mut self.second,
            _ => return false,
        };
        if target.size() != value.size() {
            return false;
        }
        tch::no_grad(|| target.copy_(value));
        true
    }
}

/// Decay factor, step size and factor of the root at step `t` (from 0) with the rate `lr * factor`.
fn coefficients(options: &AdamWOptions, t: usize, factor: f64) -> [f64; 3] {
    let lr = options.lr * factor;
    let count = (t + 1) as i32;
    let correction1 = 1.0 - options.beta1.powi(count);
    let root2 = (1.0 - options.beta2.powi(count)).sqrt();
    let decay = 1.0 - lr * options.weight_decay;
    if options.eps_on_corrected_root {
        [decay, lr / correction1, 1.0 / root2]
    } else {
        [decay, lr * root2 / correction1, 1.0]
    }
}
