//! The crate's error, and the conventions of its C interface: a code and a message, tensors as pointers.

use std::ffi::{CStr, c_char, c_int, c_void};

unsafe extern "C" {
    fn rb_last_error() -> *const c_char;
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Errors of libtorch, of CUDA and of the system.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Exception of libtorch.
    #[error("libtorch: {0}")]
    Torch(String),
    /// Failure of CUDA graphs or kernels, or their absence.
    #[error("CUDA graphs and kernels: {0}")]
    Cuda(String),
    /// Unreadable memory of the process.
    #[error("cannot read /proc/self/status: {0}")]
    Memory(String),
}

/// Result of a call of the C interface, by its code.
pub(crate) fn check(code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the message is a NUL-terminated string of this thread that lives until its next failing call.
    Err(Error::Torch(unsafe { text(rb_last_error()) }.lines().next().unwrap_or_default().to_string()))
}

/// Pointer to a tensor for C++.
pub(crate) fn as_ptr(tensor: &tch::Tensor) -> *const c_void {
    tensor.as_ptr().cast()
}

/// Tensor that a call writes to its argument.
///
/// # Panics
/// Where the call fails, as every operation of tch does: shapes that do not match, no memory.
pub(crate) fn out_tensor(call: impl FnOnce(*mut *mut c_void) -> Result<()>) -> tch::Tensor {
    let mut out = std::ptr::null_mut();
    call(&mut out).unwrap_or_else(|error| panic!("{error}"));
    // SAFETY: the call succeeded, so that `out` is a tensor nobody else has.
    unsafe { tch::Tensor::from_ptr(out.cast()) }
}

/// Text of a C string.
///
/// # Safety
/// `pointer` must be a NUL-terminated string.
pub(crate) unsafe fn text(pointer: *const c_char) -> String {
    // SAFETY: by this function's own condition.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
