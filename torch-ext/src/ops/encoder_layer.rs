//! A transformer layer, post-norm, with a low-rank branch at each of its linears, as one differentiable function.

use tch::{Device, Kind, Tensor};

use crate::error::{as_ptr, out_tensor};
use crate::ops::dropout::Dropout;
use crate::ops::{attention, norm};
use crate::token_layout::Layout;
use crate::{ffi, nvrtc};

/// Largest rank of a site's branches, those of all runs together, for which there is room behind the frozen weights; wider ones
/// get a copy of the weights in every pass.
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
    /// `[lines, width]`.
    pub x: &'a Tensor,
    /// Relative embeddings of the distances ([`crate::ops::attention::Attention`]), `[runs * 2 length, width]`; no gradient goes to
    /// them.
    pub distances: Option<&'a Tensor>,
    /// Where the rows' lines lie, those of all runs.
    pub layout: &'a Layout,
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

/// Whether there are kernels for layers as one function on this device in this kind.
pub fn is_there(device: Device, kind: Kind) -> bool {
    nvrtc::serve(&Tensor::empty([0], (kind, device))) && kind == Kind::BFloat16
}

/// Whether [`Layer::output`] serves a layer with inputs like `x`, so many heads, and these branches.
pub fn serves(x: &Tensor, heads: i64, branches: &[[&Tensor; 2]; 4]) -> bool {
    let width = x.size().last().copied().unwrap_or(0);
    let is_aligned = |[a, up]: &[&Tensor; 2]| {
        let sizes = [a.size()[a.dim() - 2], a.size()[a.dim() - 1], up.size()[up.dim() - 2]];
        sizes.iter().all(|size| size % 8 == 0)
    };
    nvrtc::serve(x)
        && attention::has_kernel(x, width / heads)
        && width <= norm::WIDEST
        && branches.iter().all(is_aligned)
}

impl Layer<'_> {
    /// The layer's output like `x`, where kernels serve; lines that no row has are of no use, and get no gradient.
    pub fn output(&self) -> Tensor {
        let random = self.dropouts[0].random;
        let [a, _] = self.linears[0].branch;
        let runs = if a.dim() == 3 { a.size()[0] } else { 1 };
        // Where nothing is dropped, the kernels draw numbers for a rate of 0.
        let state = match random {
            Some(random) => random.state.shallow_clone(),
            None => Tensor::zeros([runs, 2], (Kind::Int64, self.x.device())),
        };
        let Layout { starts, mask, rows, length, .. } = self.layout;
        let optional = |tensor: Option<&Tensor>| tensor.map_or(std::ptr::null(), as_ptr);
        let mut tensors = vec![as_ptr(self.x), optional(self.distances), optional(self.layout.order())];
        tensors.extend([as_ptr(starts), optional(mask.as_ref()), as_ptr(&state)]);
        for Adapted { whole, bias, branch: [a, up] } in &self.linears {
            tensors.extend([whole, bias, a, up].map(|tensor| as_ptr(tensor)));
        }
        tensors.extend(self.norms.iter().flatten().map(|tensor| as_ptr(tensor)));
        let mut numbers = vec![(rows / runs) as f64, *length as f64, self.heads as f64, self.scale, self.eps];
        let rate = |dropout: &Dropout| if random.is_some() { dropout.rate } else { 0.0 };
        numbers.extend(self.dropouts.iter().flat_map(|dropout| [dropout.place as f64, rate(dropout)]));
        out_tensor(|out| {
            let functions = ffi::functions()?;
            // SAFETY: as many tensors and numbers as layer.h reads, in its order; they outlive the call.
            ffi::check(functions, unsafe { (functions.layer)(tensors.as_ptr(), numbers.as_ptr(), out) })
        })
    }
}
