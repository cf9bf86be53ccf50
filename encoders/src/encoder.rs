//! The interface of every encoder.

use tch::Tensor;

use crate::checkpoint::reader::Reader;
use crate::config::Config;
use crate::error::Result;
use crate::nn::head::Head;
use crate::pass::{LayerObserver, Pass, TokenBatch};
use crate::target::TargetModule;

/// A frozen encoder with named modules.
pub trait Encoder {
    /// Modules, weights and sizes.
    fn info(&self) -> &EncoderInfo;

    /// Output of the embeddings, `[rows, length, hidden]`.
    fn embed(&self, batch: &TokenBatch, pass: Pass) -> Tensor;

    /// The last hidden state for the embeddings' output, `[rows, length, hidden]`. `observe` is called with every
    /// layer's output. Values at padding are undefined.
    fn encode(&self, embedded: &Tensor, batch: &TokenBatch, pass: Pass, observe: LayerObserver) -> Tensor;

    /// Whether [`Encoder::encode`] leaves padding out in such a pass where it may ([`TokenBatch::token_capacity`]).
    fn packs(&self, _pass: Pass) -> bool {
        false
    }

    /// Classification head with the start values of transformers: linears that the checkpoint has are taken over, new
    /// ones are drawn from `seed`.
    fn new_head(&self, num_labels: i64, seed: i64) -> Head;

    /// Logits `[rows, num_labels]`, in the head's precision. `head` holds its tensors in the order of [`Head::params`],
    /// or for stacked runs a stack of each.
    fn logits(&self, last_hidden_state: &Tensor, batch: &TokenBatch, head: &[Tensor], pass: Pass) -> Tensor;

    /// The last hidden state of a batch.
    fn last_hidden_state(&self, batch: &TokenBatch, pass: Pass) -> Tensor {
        self.encode(&self.embed(batch, pass), batch, pass, None)
    }

    /// Parameters of the backbone and a new head, adapters not counted.
    fn parameter_count(&self, num_labels: i64) -> i64 {
        let backbone = self.info().weights.iter().map(|(_, tensor)| tensor.numel());
        let head = self.new_head(num_labels, 0).params.into_iter().map(|param| param.init.numel());
        backbone.chain(head).sum::<usize>() as i64
    }
}

/// Modules, weights and sizes of an encoder.
pub struct EncoderInfo {
    /// Linears that a method may adapt, layer by layer.
    pub target_modules: Vec<TargetModule>,
    /// Frozen tensors by their Hugging Face name, head excluded. [`crate::target::Attach::weight`] counts them in this
    /// order.
    pub weights: Vec<(String, Tensor)>,
    /// Start of these names in a model with a head, e.g. `bert.`.
    pub prefix: &'static str,
    /// Width of the hidden states.
    pub hidden_size: i64,
    /// Rows of the token embedding: every id must be below it.
    pub vocab_size: i64,
    /// Longest input in tokens.
    pub max_positions: usize,
}

/// One architecture.
pub struct EncoderEntry {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// Class of its sequence classifier in transformers, for `architectures` in `config.json`.
    pub architecture: &'static str,
    /// Start of tensor names, which a base model is saved without.
    pub(crate) prefix: &'static str,
    /// Starts of names, without prefix, of further tensors that a checkpoint may hold and the encoder has no use for.
    pub(crate) ignored: &'static [&'static str],
    /// `config.json` of a tiny model for the conformance tests.
    pub tiny: &'static str,
    /// Builds the encoder from its configuration and its tensors.
    pub(crate) build: fn(&Config, &Reader) -> Result<Box<dyn Encoder>>,
}

/// Ending of [`EncoderEntry::architecture`].
const CLASSIFIER: &str = "ForSequenceClassification";

impl EncoderEntry {
    /// Start of the names of the architecture's classes, e.g. `DebertaV2`.
    pub(crate) fn class(&self) -> &'static str {
        self.architecture.strip_suffix(CLASSIFIER).unwrap_or(self.architecture)
    }
}
