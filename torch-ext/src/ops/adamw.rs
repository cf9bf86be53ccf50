//! Clipping and AdamW on flat values, in place, without a read-back.

use tch::{Kind, Tensor};

use crate::error::{Result, as_ptr, out_tensor};
use crate::{ffi, nvrtc};

/// Where decoupled weight decay comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decay {
    /// Nowhere.
    None,
    /// Before the update.
    Before,
    /// After it.
    After,
}

/// The joint norm of gradients and `min(1, bound / (norm + 1e-6))`, `[2]`.
pub fn norm_and_factor(grads: &[Tensor], bound: f64) -> Tensor {
    let first = &grads[0];
    if nvrtc::supports_float32(first) {
        let pointers: Vec<_> = grads.iter().map(as_ptr).collect();
        return out_tensor(|out| {
            let functions = ffi::functions()?;
            // SAFETY: as many tensors as are said; they outlive the call.
            ffi::check(functions, unsafe { (functions.clip)(pointers.as_ptr(), pointers.len() as _, bound, out) })
        });
    }
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
    /// Decay factor, step size and factor of the root of every step, `[steps, 3]`.
    pub table: &'a Tensor,
    /// The step, from 0, `[1]`, int64.
    pub step: &'a Tensor,
    /// Of the gradient, `[]`.
    pub factor: &'a Tensor,
    /// Decay of each moment.
    pub betas: [f64; 2],
    /// Added to the root.
    pub eps: f64,
    /// Where the decay factor comes in.
    pub decay: Decay,
}

impl Update<'_> {
    /// Overwrites values and moments.
    ///
    /// # Errors
    /// A failure on the device.
    pub fn apply(&self) -> Result<()> {
        if !nvrtc::supports_float32(self.values) {
            self.reference();
            return Ok(());
        }
        let Update { values, grad, moments: [first, second], table, step, factor, betas, eps, decay } = self;
        let tensors = [values, grad, first, second, table, step, factor].map(|tensor| as_ptr(tensor));
        let functions = ffi::functions()?;
        // SAFETY: the tensors outlive the call.
        let code = unsafe { (functions.adamw)(tensors.as_ptr(), betas[0], betas[1], *eps, *decay as _) };
        ffi::check(functions, code)
    }

    fn reference(&self) {
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
