//! The crate's error, and the conventions of its C interface: a code and a message, tensors as pointers.

use std::ffi::{CStr, c_char, c_int, c_void};

unsafe extern "C" {
    fn rb_last_error() -> *const c_char;
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What libtorch or the system said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// libtorch threw.
    #[error("libtorch: {0}")]
    Torch(String),
    /// No CUDA graphs or kernels.
    #[error("CUDA graphs and kernels: {0}")]
    Cuda(String),
    /// The process's memory cannot be read.
    #[error("cannot read /proc/self/status: {0}")]
    Memory(String),
}

pub(crate) fn check(code: c_int) -> Result<()> {
    if code == 0 {
        return Ok(());
    }
    // SAFETY: the message is a NUL-terminated string of this thread that lives until its next failing call.
    Err(Error::Torch(unsafe { text(rb_last_error()) }.lines().next().unwrap_or_default().to_string()))
}

/// A tensor as C++ sees it.
pub(crate) fn as_ptr(tensor: &tch::Tensor) -> *const c_void {
    tensor.as_ptr().cast()
}

/// What a call that gives a new tensor away wrote.
///
/// # Panics
/// On what libtorch refuses, as every operation of tch does: shapes that do not belong together, no memory.
pub(crate) fn out_tensor(call: impl FnOnce(*mut *mut c_void) -> Result<()>) -> tch::Tensor {
    let mut out = std::ptr::null_mut();
    call(&mut out).unwrap_or_else(|error| panic!("{error}"));
    // SAFETY: the call succeeded, so that `out` is a tensor nobody else has.
    unsafe { tch::Tensor::from_ptr(out.cast()) }
}

/// # Safety
/// `pointer` must be a NUL-terminated string.
pub(crate) unsafe fn text(pointer: *const c_char) -> String {
    // SAFETY: by this function's own condition.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
