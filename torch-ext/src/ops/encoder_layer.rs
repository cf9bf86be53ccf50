//! A post-norm transformer layer with a low-rank branch at each of its linears, as one differentiable function (ADR 0018).

use tch::{Device, Kind, Tensor};

use crate::error::{as_ptr, out_tensor};
use crate::ffi::Kernels;
use crate::nvrtc;
use crate::ops::dropout::Dropout;
use crate::ops::{attention, norm};
use crate::token_layout::TokenLayout;

/// Largest rank of a linear's branches, summed over stacked runs, that is reserved behind the frozen weights. Wider branches get
/// a copy of the weights in every pass.
const RESERVED_RANK: i64 = 64;

/// Rows and columns reserved behind the frozen weights of `linears` linears with one input, for their branches: where the
/// weights are in bfloat16 on a GPU.
pub fn reserved(linears: usize, device: Device, kind: Kind) -> i64 {
    if device.is_cuda() && kind == Kind::BFloat16 { RESERVED_RANK * linears as i64 } else { 0 }
}

/// A frozen linear and its branch `(x A^T) U^T`.
pub struct AugmentedLinear<'a> {
    /// The weight W in `[W U; A ·]`, `[d_out + reserved, d_in + reserved]` ([`reserved`]). A pass writes U and A.
    pub augmented: &'a Tensor,
    /// `[d_out]`.
    pub bias: &'a Tensor,
    /// `[lora_a, scaled_b]`, A and U: `[r, d_in]` and `[d_out, r]`, or with a first dimension of stacked runs.
    pub branch: [&'a Tensor; 2],
}

/// Arguments of a layer:
///
/// h = LayerNorm(dropout(W_o attention(x) + b_o) + x), out = LayerNorm(dropout(W_2 GELU(W_1 h + b_1) + b_2) + h).
pub struct FusedLayer<'a> {
    /// `[tokens, width]`.
    pub x: &'a Tensor,
    /// Relative embeddings of the distances ([`crate::ops::attention::Attention`]), `[runs * 2 length, width]`. They get no
    /// gradient.
    pub distances: Option<&'a Tensor>,
    /// Rows of all runs.
    pub layout: &'a TokenLayout,
    /// Query, key and value as one; attention's output; intermediate; output.
    pub linears: [AugmentedLinear<'a>; 4],
    /// Weight and bias of the LayerNorm after attention, and of the one after the output.
    pub norms: [[&'a Tensor; 2]; 2],
    /// Epsilon of both.
    pub eps: f64,
    /// Attention heads.
    pub heads: i64,
    /// Factor of the scores.
    pub scale: f64,
    /// Of the attention weights, attention's output, and the output.
    pub dropouts: [Dropout<'a>; 3],
}

/// Whether fused layers have kernels on this device in this kind.
pub fn is_available(device: Device, kind: Kind) -> bool {
    nvrtc::kernels(&Tensor::empty([0], (kind, device))).is_some() && kind == Kind::BFloat16
}

/// Whether [`FusedLayer::forward`] takes inputs like `x`, so many heads, and these branches.
pub fn supports(x: &Tensor, heads: i64, branches: &[[&Tensor; 2]; 4]) -> bool {
    let width = x.size().last().copied().unwrap_or(0);
    let is_aligned = |[lora_a, scaled_b]: &[&Tensor; 2]| {
        let [a, b] = [lora_a, scaled_b].map(|factor| factor.size());
        [a[a.len() - 2], a[a.len() - 1], b[b.len() - 2]].iter().all(|size| size % 8 == 0)
    };
    nvrtc::kernels(x).is_some()
        && attention::supports_head(x, width / heads)
        && width <= norm::max_width()
        && branches.iter().all(is_aligned)
}

impl FusedLayer<'_> {
    /// The layer's output, shaped like `x`. Requires [`supports`]. Tokens beyond the last row are undefined and get no gradient.
    ///
    /// # Panics
    /// Where [`supports`] says no.
    pub fn forward(&self) -> Tensor {
        let kernels = nvrtc::kernels(self.x).expect("a fused layer needs the kernels: ask `supports` first");
        self.forward_by(kernels)
    }

    fn forward_by(&self, kernels: &Kernels) -> Tensor {
        let rng = self.dropouts[0].rng;
        let [lora_a, _] = self.linears[0].branch;
        let runs = if lora_a.dim() == 3 { lora_a.size()[0] } else { 1 };
        // Where nothing is dropped, the kernels draw numbers for p = 0.
        let state = match rng {
            Some(rng) => rng.state.shallow_clone(),
            None => Tensor::zeros([runs, 2], (Kind::Int64, self.x.device())),
        };
        let TokenLayout { cu_seqlens, mask, rows, length, .. } = self.layout;
        let optional = |tensor: Option<&Tensor>| tensor.map_or(std::ptr::null(), as_ptr);
        let mut tensors = vec![as_ptr(self.x), optional(self.distances), optional(self.layout.indices())];
        tensors.extend([as_ptr(cu_seqlens), optional(mask.as_ref()), as_ptr(&state)]);
        for AugmentedLinear { augmented, bias, branch: [lora_a, scaled_b] } in &self.linears {
            tensors.extend([augmented, bias, lora_a, scaled_b].map(|tensor| as_ptr(tensor)));
        }
        tensors.extend(self.norms.iter().flatten().map(|tensor| as_ptr(tensor)));
        let mut numbers = vec![(rows / runs) as f64, *length as f64, self.heads as f64, self.scale, self.eps];
        let p = |dropout: &Dropout| if rng.is_some() { dropout.p } else { 0.0 };
        numbers.extend(self.dropouts.iter().flat_map(|dropout| [dropout.stream as f64, p(dropout)]));
        // SAFETY: as many tensors and numbers as encoder_layer.h reads, in its order; they outlive the call.
        out_tensor(|out| kernels.check(unsafe { (kernels.layer)(tensors.as_ptr(), numbers.as_ptr(), out) }))
    }
}
