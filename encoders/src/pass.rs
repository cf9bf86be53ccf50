//! One forward pass: its batch, what is attached, its dropout.

use tch::Tensor;
use torch_ext::ops::dropout::{Dropout, DropoutRng};

use crate::target::{Attach, LowRank};

/// One padded batch on the encoder's device.
pub struct TokenBatch {
    /// `[rows, length]`, int64.
    pub input_ids: Tensor,
    /// 1 for a token, 0 for padding, which is at the end of a row, `[rows, length]`, int64.
    pub attention_mask: Tensor,
    /// Segment ids, `[rows, length]`, int64.
    pub token_type_ids: Tensor,
    /// Number of packed tokens, at least that of the batch, where padding need not be computed.
    pub token_capacity: Option<i64>,
}

/// Called with each layer's output, `[rows, length, hidden]`.
pub type LayerObserver<'a> = Option<&'a mut dyn FnMut(&Tensor)>;

/// Settings of one forward pass.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// The method's contributions.
    pub attach: &'a dyn Attach,
    /// Numbers for the configuration's dropout, in training. A batch then holds the rows of all stacked runs, run by
    /// run.
    pub dropout: Option<&'a DropoutRng>,
}

impl<'a> Pass<'a> {
    /// Runs whose rows a batch holds.
    pub(crate) fn runs(self) -> i64 {
        self.dropout.map_or(1, DropoutRng::runs)
    }

    /// Dropout with the numbers of a stream.
    pub(crate) fn dropout(self, stream: i64, p: f64) -> Dropout<'a> {
        Dropout { rng: self.dropout, stream, p }
    }

    /// Whether a branch's input is dropped in this pass.
    pub(crate) fn drops(self, branch: &LowRank) -> bool {
        self.dropout.is_some() && branch.dropout > 0.0
    }
}

/// Dropout streams: those outside the layers, then four of every layer; and two of every branch.
pub mod streams {
    pub(crate) const EMBEDDINGS: i64 = 0;
    pub(crate) const POOLER: i64 = 1;
    pub(crate) const CLASSIFIER: i64 = 2;
    /// Above those of any number of layers.
    const BRANCHES: i64 = 1 << 20;
    /// From a branch's stream for tokens to its stream for distances.
    pub(crate) const DISTANCES: i64 = 1;

    /// Streams of a layer.
    #[derive(Clone, Copy)]
    pub(crate) enum InLayer {
        Distances,
        AttentionWeights,
        AttentionOutput,
        Output,
    }

    pub(crate) fn of_layer(layer: usize, stream: InLayer) -> i64 {
        8 + 4 * layer as i64 + stream as i64
    }

    /// Stream of the tokens that a branch takes, by its module's position in the encoder's list.
    pub fn of_branch(module: usize) -> i64 {
        BRANCHES + 2 * module as i64
    }
}
