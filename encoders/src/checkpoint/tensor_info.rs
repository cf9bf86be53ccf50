//! Place and form of a tensor in a file.

use tch::Kind;

/// Place and form of a tensor in a file.
pub(crate) struct TensorInfo {
    pub kind: Kind,
    pub shape: Vec<i64>,
    /// Steps from value to value along each dimension, where they are not those of the shape.
    pub strides: Option<Vec<i64>>,
    /// First byte in the file.
    pub start: usize,
    /// Bytes from the first value to the last.
    pub length: usize,
}
