//! A transformer layer, post-norm, with a low-rank branch at each of its linears, as one differentiable function.

use tch::{Device, Kind, Tensor};

use crate::dropout::Dropout;
use crate::{attention, cuda, kernels, norm, pointer, taken};

/// Largest rank of a site's branch that is laid beside the frozen weights.
const LARGEST_RANK: i64 = 64;

/// Lines and columns that lie behind the frozen weights of `sites` linears of one input, for their branches: where the weights
/// are in bfloat16 on a GPU.
pub fn room(sites: usize, device: Device, kind: Kind) -> i64 {
    if device.is_cuda() && kind == Kind::BFloat16 { LARGEST_RANK * sites as i64 } else { 0 }
}

/// A frozen linear and its branch `(x A^T) U^T`.
pub struct Adapted<'a> {
    /// The weight and its [`room`], which is written to: `[d_out + room, d_in + room]`.
    pub whole: &'a Tensor,
    /// `[d_out]`.
    pub bias: &'a Tensor,
    /// A and U, `[r, d_in]` and `[d_out, r]`, or a stack of each for runs side by side.
    pub branch: [&'a Tensor; 2],
}

/// What a layer computes with:
///
/// h = LayerNorm(dropout(W_o attention(x) + b_o) + x), out = LayerNorm(dropout(W_2 GELU(W_1 h + b_1) + b_2) + h).
pub struct Layer<'a> {
    /// `[runs * rows * length, width]`.
    pub x: &'a Tensor,
    /// Relative embeddings of the distances ([`crate::attention::Attention`]), `[runs * 2 length, width]`; no gradient goes to
    /// them.
    pub distances: Option<&'a Tensor>,
    /// Added to the scores, `[runs * rows, 1, 1, length]`.
    pub mask: &'a Tensor,
    /// Query, key and value as one; attention's output; intermediate; output.
    pub linears: [Adapted<'a>; 4],
    /// Weight and bias of the LayerNorm after attention, and of the one after the output.
    pub norms: [[&'a Tensor; 2]; 2],
    /// Of both.
    pub eps: f64,
    /// Attention heads.
    pub heads: i64,
    /// Factor of the scores.
    pub scale: f64,
    /// Of the attention weights, attention's output, and the output.
    pub dropouts: [Dropout<'a>; 3],
}

impl Layer<'_> {
    /// The layer's output like `x`; `None` where no kernel serves.
    pub fn output(&self) -> Option<Tensor> {
        if !self.is_served() {
            return None;
        }
        let random = self.dropouts[0].random;
        // Where nothing is dropped, the kernels draw numbers for a rate of 0.
        let state = match random {
            Some(random) => random.state.shallow_clone(),
            None => Tensor::zeros([1, 2], (Kind::Int64, self.x.device())),
        };
        let none = std::ptr::null();
        let mut tensors =
            vec![pointer(self.x), self.distances.map_or(none, pointer), pointer(self.mask), pointer(&state)];
        for Adapted { whole, bias, branch: [a, up] } in &self.linears {
            tensors.extend([whole, bias, a, up].map(|tensor| pointer(tensor)));
        }
        tensors.extend(self.norms.iter().flatten().map(|tensor| pointer(tensor)));
        let length = self.mask.size()[3];
        let mut numbers = vec![self.heads as f64, length as f64, self.scale, self.eps];
        let rate = |dropout: &Dropout| if random.is_some() { dropout.rate } else { 0.0 };
        numbers.extend(self.dropouts.iter().flat_map(|dropout| [dropout.place as f64, rate(dropout)]));
        Some(taken(|out| {
            let functions = cuda::functions()?;
            // SAFETY: as many tensors and numbers as layer.h reads, in its order; they outlive the call.
            cuda::checked(functions, unsafe { (functions.layer)(tensors.as_ptr(), numbers.as_ptr(), out) })
        }))
    }

    fn is_served(&self) -> bool {
        let width = self.x.size()[1];
        let fits = |linear: &Adapted| {
            let [a, up] = linear.branch;
            let (rank, widths) = (a.size()[a.dim() - 2], [a.size()[a.dim() - 1], up.size()[up.dim() - 2]]);
            let has_room = a.dim() == 3 || linear.whole.size()[1] - widths[0] >= rank;
            has_room && [rank, widths[0], widths[1]].iter().all(|size| size % 8 == 0)
        };
        kernels::serve(self.x)
            && attention::has_kernel(self.x, width / self.heads)
            && width <= norm::WIDEST
            && self.linears.iter().all(fits)
    }
}
