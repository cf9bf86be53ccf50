//! C interface of the CUDA library, which is part of the binary and loaded where a GPU is used (ADR 0015).

use std::ffi::{CStr, CString, c_char, c_int, c_longlong, c_void};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::OnceLock;

use crate::device::load_cuda;
use crate::error::{Error, Result};

/// Library built from `cuda.cpp` and `kernels.cpp`. Empty where the build had no headers of CUDA.
const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cuda.so"));

type Call = unsafe extern "C" fn(*mut c_void) -> c_int;
type Handle = *const c_void;
type Out = *mut *mut c_void;
/// x, state: stream, p, tokens of a row, position of its first, counters of a token.
type Dropout =
    unsafe extern "C" fn(Handle, Handle, c_longlong, f64, c_longlong, c_longlong, c_longlong, c_longlong, Out) -> c_int;
/// x, residual, weight, bias, state: stream, p, epsilon, length.
type DropAddNorm =
    unsafe extern "C" fn(Handle, Handle, Handle, Handle, Handle, c_longlong, f64, f64, c_longlong, Out) -> c_int;
/// x, weight, bias, lora_a, scaled_b.
type LoraLinear = unsafe extern "C" fn(Handle, Handle, Handle, Handle, Handle, Out) -> c_int;
/// q, k and v, mask, state: stream, p, heads, scale.
type Attention = unsafe extern "C" fn(Handle, Handle, Handle, c_longlong, f64, c_longlong, f64, Out) -> c_int;
/// Tensors and numbers of a layer, as encoder_layer.h reads them.
type Layer = unsafe extern "C" fn(*const Handle, *const f64, Out) -> c_int;
/// Gradients of run after run; how many of each run, bound of each; runs.
type Clip = unsafe extern "C" fn(*const Handle, *const c_int, *const f64, c_int, Out) -> c_int;
/// Values, gradient, average, uncertainty: decays of the averages.
type Importance = unsafe extern "C" fn(*const Handle, f64, f64) -> c_int;
/// Of each update: values, gradient, moments, table, step, factor; decays of the moments, epsilon, where weight decay comes in.
/// How many.
type AdamW = unsafe extern "C" fn(*const Handle, *const f64, c_int) -> c_int;

/// A and B by turns, how many.
type GramDistance = unsafe extern "C" fn(*const Handle, c_int, Out) -> c_int;
/// Average, uncertainty: six numbers of each shape, how many, rank.
type ComponentScores = unsafe extern "C" fn(Handle, Handle, *const c_longlong, c_int, c_int, Out) -> c_int;

/// Functions around the kernels (`kernels.cpp`).
pub(crate) struct Kernels {
    error: unsafe extern "C" fn() -> *const c_char,
    pub position_bias: unsafe extern "C" fn(Handle, Handle, Handle, Out) -> c_int,
    pub dropout: Dropout,
    pub lora_linear_3xf16: LoraLinear,
    pub drop_add_norm: DropAddNorm,
    pub attention: Attention,
    pub layer: Layer,
    pub clip: Clip,
    pub adamw: AdamW,
    pub gram_distance: GramDistance,
    pub importance: Importance,
    pub component_scores: ComponentScores,
}

impl Kernels {
    /// Finds the functions in an open library.
    ///
    /// # Safety
    /// The library must be built from `kernels.cpp`.
    pub unsafe fn find(library: *mut c_void) -> std::result::Result<Self, String> {
        // SAFETY: by the caller, each function is of its field's type.
        unsafe {
            Ok(Kernels {
                error: find(library, c"rb_kernel_error")?,
                position_bias: find(library, c"rb_position_bias")?,
                dropout: find(library, c"rb_cuda_dropout")?,
                lora_linear_3xf16: find(library, c"rb_lora_linear_3xf16")?,
                drop_add_norm: find(library, c"rb_drop_add_norm")?,
                attention: find(library, c"rb_attention")?,
                layer: find(library, c"rb_layer")?,
                clip: find(library, c"rb_clip")?,
                adamw: find(library, c"rb_adamw")?,
                gram_distance: find(library, c"rb_gram_distance")?,
                importance: find(library, c"rb_importance")?,
                component_scores: find(library, c"rb_component_scores")?,
            })
        }
    }

    /// Result of a call to the library, by its code.
    pub fn check(&self, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the message is a NUL-terminated string of this thread.
        let text = unsafe { CStr::from_ptr((self.error)()) }.to_string_lossy();
        // The lines after the first are libtorch's stack.
        Err(Error::Cuda(text.lines().next().unwrap_or_default().to_string()))
    }
}

/// Functions of the library.
pub(crate) struct Functions {
    pub kernels: Kernels,
    pub enter: unsafe extern "C" fn(c_int) -> c_int,
    pub begin: unsafe extern "C" fn(*mut *mut c_void) -> c_int,
    pub end: Call,
    pub abort: Call,
    pub replay: Call,
    pub free: Call,
    pub load_kernels: unsafe extern "C" fn(*const c_char, *const c_char, *const *const c_char, c_int) -> c_int,
    pub architecture: unsafe extern "C" fn(c_int, *mut c_int) -> c_int,
}

/// Whether this build has CUDA graphs and kernels. [`crate::graph::enter`] finds out whether this machine does.
pub fn is_built() -> bool {
    !LIBRARY.is_empty()
}

pub(crate) fn functions() -> Result<&'static Functions> {
    static FUNCTIONS: OnceLock<std::result::Result<Functions, String>> = OnceLock::new();
    FUNCTIONS.get_or_init(load).as_ref().map_err(|reason| Error::Cuda(reason.clone()))
}

fn load() -> std::result::Result<Functions, String> {
    if !is_built() {
        return Err("this build has none (CUDA's headers were not there when it was built)".into());
    }
    if !load_cuda() {
        return Err("libtorch's CUDA half is not there".into());
    }
    // The library lies in memory, so that the binary needs no file beside it.
    // SAFETY: a name that is NUL-terminated; the descriptor is owned by the file made from it.
    let mut file = unsafe {
        let descriptor = libc::memfd_create(c"rankbench-cuda".as_ptr(), 0);
        if descriptor < 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        std::fs::File::from_raw_fd(descriptor)
    };
    file.write_all(LIBRARY).map_err(|e| e.to_string())?;
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(|e| e.to_string())?;
    // SAFETY: the library is our own, and its initialisers do nothing.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    if handle.is_null() {
        // SAFETY: the message is NUL-terminated and lives until the next call of this thread.
        return Err(unsafe { CStr::from_ptr(libc::dlerror()) }.to_string_lossy().into_owned());
    }
    // SAFETY: every field is a function, of the type that cuda.cpp, which is built with this file, gives it.
    unsafe {
        Ok(Functions {
            kernels: Kernels::find(handle)?,
            enter: find(handle, c"rb_graph_enter")?,
            begin: find(handle, c"rb_graph_begin")?,
            end: find(handle, c"rb_graph_end")?,
            abort: find(handle, c"rb_graph_abort")?,
            replay: find(handle, c"rb_graph_replay")?,
            free: find(handle, c"rb_graph_free")?,
            load_kernels: find(handle, c"rb_kernels_load")?,
            architecture: find(handle, c"rb_architecture")?,
        })
    }
}

/// A function of an open library.
///
/// # Safety
/// `F` must be the function's type.
pub(crate) unsafe fn find<F>(library: *mut c_void, name: &CStr) -> std::result::Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
    // SAFETY: library and name are valid; the type is right by the caller.
    unsafe {
        let symbol = libc::dlsym(library, name.as_ptr());
        if symbol.is_null() {
            return Err(format!("the library has no {}", name.to_string_lossy()));
        }
        Ok(std::mem::transmute_copy(&symbol))
    }
}
