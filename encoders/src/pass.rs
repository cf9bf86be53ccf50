//! One forward pass: its batch, what is attached, its dropout.

use tch::Tensor;
use torch_ext::ops::dropout::{Dropout, DropoutRng};

use crate::target::TargetModule;

/// One padded batch on the encoder's device.
pub struct TokenBatch {
    /// Token ids, `[rows, length]`, int64.
    pub ids: Tensor,
    /// 1 for a token, 0 for padding, which is at the end of a row, `[rows, length]`, int64.
    pub mask: Tensor,
    /// Segment ids, `[rows, length]`, int64.
    pub type_ids: Tensor,
    /// Lines for the tokens of all rows, as many as there are or more, where padding need not be computed.
    pub lines: Option<i64>,
}

/// Whoever looks at every layer's output, `[rows, length, hidden]`.
pub type LayerObserver<'a> = Option<&'a mut dyn FnMut(&Tensor)>;

/// What a method attaches to a backbone during one forward pass.
pub trait Attach {
    /// A and U of the branch `(x A^T) U^T` that is added to the linear at `module`: `[r, d_in]` and `[d_out, r]`, or a stack of
    /// each for runs side by side.
    fn low_rank(&self, _site: &TargetModule) -> Option<[&Tensor; 2]> {
        None
    }

    /// A and U of the branches of `modules`, which have the same input, as one branch: `[k r, d_in]` and `[k d_out, k r]`, or a
    /// stack of each for runs side by side.
    fn fused_qkv(&self, _sites: &[TargetModule]) -> Option<[&Tensor; 2]> {
        None
    }

    /// The output of the linear at `module`, `[..., d_out]`, with what is attached there, for its input `x` (`[..., d_in]`)
    /// and its own output `y`; where there is no low-rank branch.
    fn output(&self, _site: &TargetModule, _x: &Tensor, y: Tensor) -> Tensor {
        y
    }

    /// What stands in place of the backbone's tensor number `index` of [`crate::encoder::Encoder::weights`], for a method that
    /// trains it.
    fn weight(&self, _index: usize) -> Option<&Tensor> {
        None
    }
}

/// Nothing attached: the backbone as it is.
pub struct Frozen;

impl Attach for Frozen {}

/// How one forward pass is run.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// What is attached.
    pub attach: &'a dyn Attach,
    /// Numbers for the configuration's dropout, in training. A batch then holds the rows of all their runs, run by run.
    pub dropout: Option<&'a DropoutRng>,
}

impl<'a> Pass<'a> {
    /// Runs whose rows a batch holds.
    pub(crate) fn runs(self) -> i64 {
        self.dropout.map_or(1, DropoutRng::runs)
    }

    /// Dropout at a place of the network.
    pub(crate) fn dropout(self, place: i64, rate: f64) -> Dropout<'a> {
        Dropout { rng: self.dropout, stream: place, p: rate }
    }
}

/// Numbers of the places of dropout: those outside the layers, then four of every layer.
pub(crate) mod place {
    pub const EMBEDDINGS: i64 = 0;
    pub const POOLER: i64 = 1;
    pub const CLASSIFIER: i64 = 2;

    /// Places of a layer.
    #[derive(Clone, Copy)]
    pub enum InLayer {
        Distances,
        Weights,
        AttentionOutput,
        Output,
    }

    pub fn of_layer(layer: usize, place: InLayer) -> i64 {
        8 + 4 * layer as i64 + place as i64
    }
}
