//! AdaLoRA's smoothed importance and uncertainty (spec §2.3) on flat values, in place, without a read-back.

use tch::Tensor;

use crate::error::{Result, as_ptr};
use crate::{ffi, nvrtc};

/// `I = |w g|; Ī ← β1 Ī + (1-β1) I; Ū ← β2 Ū + (1-β2) |I - Ī|`, all `[n]`: `of` are w and g, `averages` Ī and Ū.
///
/// # Errors
/// A failure on the device.
pub fn update(of: [&Tensor; 2], averages: [&Tensor; 2], [beta1, beta2]: [f64; 2]) -> Result<()> {
    let ([values, grad], [average, uncertainty]) = (of, averages);
    if nvrtc::supports_float32(values) {
        let tensors = [values, grad, average, uncertainty].map(as_ptr);
        let functions = ffi::functions()?;
        // SAFETY: the tensors outlive the call.
        return ffi::check(functions, unsafe { (functions.importance)(tensors.as_ptr(), beta1, beta2) });
    }
    let now = values.g_mul(grad).abs_();
    let _ = average.shallow_clone().lerp_(&now, 1.0 - beta1);
    let _ = uncertainty.shallow_clone().lerp_(&(now - average).abs_(), 1.0 - beta2);
    Ok(())
}
