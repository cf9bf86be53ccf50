//! Gradients kept and let go, for which tch has no function.

use std::ffi::{c_int, c_void};

use tch::Tensor;

use crate::error::{Result, as_ptr, check};

unsafe extern "C" {
    fn rb_retain_grad(tensor: *const c_void) -> c_int;
    fn rb_clear_grad(tensor: *const c_void) -> c_int;
}

/// Keeps a tensor's gradient in the next backward pass, as PyTorch's `retain_grad`. It stays undefined where none reaches the tensor.
///
/// # Errors
/// A tensor outside autograd's graph.
pub fn retain_grad(tensor: &Tensor) -> Result<()> {
    // SAFETY: the tensor outlives the call.
    check(unsafe { rb_retain_grad(as_ptr(tensor)) })
}

/// Lets a leaf's gradient go, as PyTorch's `zero_grad(set_to_none=True)`: the next backward pass gives the leaf its own.
pub fn clear_grad(leaf: &Tensor) {
    // SAFETY: the tensor outlives the call, which only fails where memory is out for a leaf's first gradient.
    let _ = check(unsafe { rb_clear_grad(as_ptr(leaf)) });
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn a_gradient_that_was_let_go_is_not_added_to() {
        let leaf = Tensor::ones([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        for factor in [3.0, 5.0] {
            (&leaf * factor).sum(None::<Kind>).backward();
            assert_eq!(Vec::<f32>::try_from(leaf.grad()).unwrap(), [factor as f32; 2]);
            clear_grad(&leaf);
            assert!(!leaf.grad().defined());
        }
    }

    #[test]
    fn a_view_keeps_its_gradient_where_one_reaches_it() {
        let flat = Tensor::ones([4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let views = flat.split_with_sizes([2, 2], 0);
        views.iter().for_each(|view| retain_grad(view).unwrap());
        (&views[0] * 3.0).sum(None::<Kind>).backward();
        assert_eq!(Vec::<f32>::try_from(views[0].grad()).unwrap(), [3.0, 3.0]);
        assert!(!views[1].grad().defined());
        assert!(retain_grad(&Tensor::ones([1], (Kind::Float, Device::Cpu))).is_err());
    }
}
