//! Additions to tch: synchronisation and memory of a device, the TF32 switch, CUDA graphs, and the expensive parts of a training step
//! as one differentiable function each. On a GPU they are the project's own kernels, elsewhere reference implementations in plain
//! tensors.

pub mod autograd;
pub mod device;
#[cfg(test)]
mod emulator;
pub mod error;
mod ffi;
pub mod graph;
pub mod nvrtc;
pub mod ops;
pub mod token_layout;

pub use error::{Error, Result};
