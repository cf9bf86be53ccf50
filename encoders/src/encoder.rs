//! What every encoder offers.

use tch::Tensor;
use torch_ext::ops::dropout::DropoutRng;

use crate::checkpoint::reader::Reader;
use crate::config::Config;
use crate::error::Result;
use crate::nn::head::Head;
use crate::nn::parts::Trunk;
use crate::pass::{LayerObserver, Pass, TokenBatch};
use crate::target::TargetModule;

/// A frozen encoder with named modules.
pub trait Encoder {
    /// The layers, their modules, and every tensor of the backbone.
    fn trunk(&self) -> &Trunk;

    /// Every module, in the order of the modules (layer by layer: query, key, value, attention output, intermediate, output).
    fn target_modules(&self) -> &[TargetModule] {
        self.trunk().target_modules()
    }

    /// The frozen tensors by their Hugging Face name, head excluded; [`crate::pass::Attach::weight`] counts them in this order.
    fn weights(&self) -> &[(String, Tensor)] {
        self.trunk().weights()
    }

    /// Width of the hidden states.
    fn hidden_size(&self) -> i64 {
        self.trunk().dims.hidden
    }

    /// Rows of the token embedding: every id must be below it.
    fn vocab_size(&self) -> usize {
        self.trunk().dims.vocab as usize
    }

    /// Longest input in tokens.
    fn max_positions(&self) -> usize;

    /// Output of the embeddings, `[rows, length, hidden]`.
    fn embeddings(&self, inputs: &TokenBatch, pass: Pass) -> Tensor;

    /// The last layer's output for the embeddings' output, `[rows, length, hidden]`; `each` sees every layer's.
    fn layers(&self, embedded: &Tensor, inputs: &TokenBatch, pass: Pass, each: LayerObserver) -> Tensor;

    /// Embeddings' output followed by every layer's output, each `[rows, length, hidden]`.
    fn hidden_states(&self, inputs: &TokenBatch, pass: Pass) -> Vec<Tensor> {
        let mut states = vec![self.embeddings(inputs, pass)];
        let embedded = states[0].shallow_clone();
        let _last = self.layers(&embedded, inputs, pass, Some(&mut |state| states.push(state.shallow_clone())));
        states
    }

    /// The last of [`Encoder::hidden_states`]; the others are not kept, and what stands for padding is of no use.
    fn last_hidden(&self, inputs: &TokenBatch, pass: Pass) -> Tensor {
        self.layers(&self.embeddings(inputs, pass), inputs, pass, None)
    }

    /// Classification head for `outputs` outputs, with the pre-trained pooler where the checkpoint has one and new
    /// tensors drawn N(0, initializer_range), biases 0, from `seed` where it has none.
    fn head(&self, outputs: i64, seed: i64) -> Head;

    /// Logits `[rows, outputs]` from the last hidden state and the head's tensors in the order of [`Head::params`] (or a stack
    /// of each for runs side by side), in the head's precision.
    fn logits(&self, last_hidden: &Tensor, head: &[Tensor], dropout: Option<&DropoutRng>) -> Tensor;

    /// Values of the head for `outputs` outputs.
    fn head_len(&self, outputs: i64) -> i64 {
        Head::len(self.hidden_size(), outputs)
    }

    /// All parameters of the backbone and a head with `outputs` outputs, adapters not counted.
    fn parameter_count(&self, outputs: i64) -> i64 {
        let backbone: usize = self.weights().iter().map(|(_, tensor)| tensor.numel()).sum();
        backbone as i64 + self.head_len(outputs)
    }
}

/// One architecture.
pub struct EncoderEntry {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// Prefix of its classes' names, in `architectures`.
    pub(crate) class: &'static str,
    /// What tensor names may start with; a base model is saved without it.
    pub(crate) prefix: &'static str,
    /// Starts of names, without prefix, of further tensors that a checkpoint may hold and the encoder has no use for.
    pub(crate) ignored: &'static [&'static str],
    /// `config.json` of a tiny model for the conformance tests.
    pub tiny: &'static str,
    /// Builds the encoder from its configuration and its tensors.
    pub(crate) build: fn(&Config, &Reader) -> Result<Box<dyn Encoder>>,
}
