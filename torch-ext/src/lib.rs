//! What tch does not have: synchronisation and memory of a device, CUDA graphs, the TF32 switch, and the parts of a step that
//! are more than one operation of libtorch, in kernels of our own on a GPU and as plain tensors elsewhere.

pub mod autograd;
pub mod device;
pub mod error;
mod ffi;
pub mod graph;
pub mod nvrtc;
pub mod ops;
pub mod token_layout;

pub use error::{Error, Result};
