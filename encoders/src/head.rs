//! The classification head as a list of named tensors: whoever trains owns them.

use tch::Tensor;

/// Start values of a classification head.
pub struct Head {
    /// Its tensors, in the order [`crate::Encoder::logits`] takes them.
    pub params: Vec<HeadParam>,
}

/// One tensor of a head.
pub struct HeadParam {
    /// Hugging Face name, e.g. `classifier.weight`.
    pub name: String,
    /// Start value.
    pub init: Tensor,
    /// Whether weight decay applies (weights yes, biases no).
    pub decayed: bool,
}
