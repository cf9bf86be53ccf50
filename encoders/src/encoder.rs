//! What every encoder offers.

use tch::Tensor;

use crate::head::Head;
use crate::site::{Attach, Site};

/// One padded batch on the encoder's device.
pub struct Inputs {
    /// Token ids, `[rows, length]`, int64.
    pub ids: Tensor,
    /// 1 for a token, 0 for padding, `[rows, length]`, int64.
    pub mask: Tensor,
    /// Segment ids, `[rows, length]`, int64.
    pub type_ids: Tensor,
}

/// A frozen encoder with named sites.
pub trait Encoder {
    /// Every site, in the order of the modules (layer by layer: query, key, value, attention output, intermediate, output).
    fn sites(&self) -> &[Site];

    /// Embedding output followed by every layer's output, each `[rows, length, hidden]`.
    /// `train` turns the dropout of the configuration on.
    fn hidden_states(&self, inputs: &Inputs, attach: &dyn Attach, train: bool) -> Vec<Tensor>;

    /// Classification head (pooler and classifier) for `outputs` outputs, with the pre-trained pooler where the
    /// checkpoint has one and new tensors drawn N(0, initializer_range), biases 0, from `seed` where it has none.
    fn head(&self, outputs: i64, seed: i64) -> Head;

    /// Logits `[rows, outputs]` from the last hidden state and the head's tensors in the order of [`Head::params`].
    fn logits(&self, last_hidden: &Tensor, head: &[Tensor], train: bool) -> Tensor;

    /// All parameters of the backbone and a head with `outputs` outputs, adapters not counted.
    fn parameter_count(&self, outputs: i64) -> i64;
}
