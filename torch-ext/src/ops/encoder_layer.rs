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
    /// Tokens of the rows of all runs.
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
    /// Dropout of the attention weights, of attention's output, and of the output.
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
            None => Tensor::zeros([runs, 3], (Kind::Int64, self.x.device())),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::{compare, dropout_rng, in_every_schedule, random};
    use crate::ops::attention::Attention;
    use crate::ops::lora_linear::lora_linear;
    use crate::ops::norm::drop_add_norm;

    #[derive(Clone, Copy)]
    struct Case {
        runs: i64,
        rows: i64,
        length: i64,
        heads: i64,
        head: i64,
        r: i64,
        has_positions: bool,
        drops: bool,
        is_packed: bool,
    }

    impl Case {
        /// Values in and out of each linear.
        fn widths(&self) -> [[i64; 2]; 4] {
            let (width, inner) = (self.heads * self.head, 2 * self.heads * self.head);
            [[width, 3 * width], [width, width], [width, inner], [inner, width]]
        }

        /// x, and A and U of every linear.
        fn inputs(&self) -> Vec<Tensor> {
            let leading: &[i64] = if self.runs == 1 { &[] } else { &[self.runs] };
            let mut inputs = vec![random(&[self.runs * self.rows * self.length, self.widths()[0][0]])];
            for (index, [d_in, d_out]) in self.widths().into_iter().enumerate() {
                let r = if index == 0 { 3 * self.r } else { self.r };
                inputs.extend([[r, d_in], [d_out, r]].map(|shape| random(&[leading, &shape].concat()) * 0.1));
            }
            inputs
        }
    }

    /// Frozen tensors of a layer, and which of `[runs * rows, length]` are tokens and not padding.
    struct Frozen {
        linears: [[Tensor; 2]; 4],
        norms: [[Tensor; 2]; 2],
        distances: Option<Tensor>,
        is_token: Tensor,
    }

    impl Frozen {
        /// Rows of one token, of all, and of some.
        fn draw(case: &Case) -> (Self, i64) {
            let Case { runs, rows, length, .. } = *case;
            let widths = case.widths();
            let width = widths[0][0];
            let ends: Vec<i64> = (0..runs * rows).map(|row| 1 + row * 37 % length).collect();
            let positions = Tensor::arange(length, (Kind::Int64, Device::Cpu)).unsqueeze(0);
            let frozen = Frozen {
                linears: widths.map(|[d_in, d_out]| [random(&[d_out, d_in]) * 0.1, random(&[d_out])]),
                norms: [0, 1].map(|_| [random(&[width]) + 1.0, random(&[width])]),
                distances: case.has_positions.then(|| random(&[runs * 2 * length, width])),
                is_token: positions.lt_tensor(&Tensor::from_slice(&ends).unsqueeze(1)),
            };
            (frozen, ends.iter().sum::<i64>() + 21)
        }

        /// Values of bfloat16 in a kind.
        fn to_kind(&self, kind: Kind) -> Self {
            let round = |x: &Tensor| x.to_kind(Kind::BFloat16).to_kind(kind);
            Frozen {
                linears: self.linears.each_ref().map(|pair| pair.each_ref().map(round)),
                norms: self.norms.each_ref().map(|pair| pair.each_ref().map(round)),
                distances: self.distances.as_ref().map(round),
                is_token: self.is_token.shallow_clone(),
            }
        }

        fn mask(&self, kind: Kind) -> Tensor {
            let (rows, length) = self.is_token.size2().unwrap();
            ((self.is_token.to_kind(kind) - 1.0) * 1e30).view([rows, 1, 1, length])
        }
    }

    fn branches(x: &[Tensor]) -> [[&Tensor; 2]; 4] {
        [0, 1, 2, 3].map(|linear| [&x[1 + 2 * linear], &x[2 + 2 * linear]])
    }

    /// The layer from the operations it is made of.
    fn reference(x: &[Tensor], frozen: &Frozen, case: &Case, dropouts: [Dropout; 3]) -> Tensor {
        let Case { runs, length, heads, .. } = *case;
        let linear =
            |index: usize, input: &Tensor| lora_linear(input, frozen.linears[index].each_ref(), branches(x)[index]);
        let of_runs = |x: &Tensor| x.view([runs, -1, x.size()[1]]);
        let tokens = match &frozen.distances {
            None => x[0].shallow_clone(),
            Some(distances) => Tensor::cat(&[of_runs(&x[0]), of_runs(distances)], 1).flatten(0, 1),
        };
        let (projected, mask) = (linear(0, &tokens), frozen.mask(Kind::Float));
        let (has_positions, dropout) = (case.has_positions, dropouts[0]);
        let attention = Attention { projected: &projected, has_positions, mask: &mask, heads, scale: 0.1, dropout };
        let norm = |index: usize, x: &Tensor, residual: &Tensor| {
            drop_add_norm(x, residual, frozen.norms[index].each_ref(), 1e-7, dropouts[1 + index], length)
        };
        let hidden = norm(0, &linear(1, &attention.context()), &x[0]);
        norm(1, &linear(3, &linear(2, &hidden).gelu("none")), &hidden)
    }

    /// Frozen weights with what is reserved behind them.
    fn augmented(frozen: &Frozen) -> [Tensor; 4] {
        frozen.linears.each_ref().map(|[weight, _]| weight.constant_pad_nd([0, 64, 0, 64]))
    }

    fn by_kernels(
        x: &[Tensor],
        (frozen, augmented): (&Frozen, &[Tensor; 4]),
        case: &Case,
        layout: &TokenLayout,
        dropouts: [Dropout; 3],
        kernels: &Kernels,
    ) -> Tensor {
        let linears = std::array::from_fn(|index| AugmentedLinear {
            augmented: &augmented[index],
            bias: &frozen.linears[index][1],
            branch: branches(x)[index],
        });
        let input = layout.pack(&x[0]);
        let layer = FusedLayer {
            x: &input,
            distances: frozen.distances.as_ref(),
            layout,
            linears,
            norms: frozen.norms.each_ref().map(|pair| pair.each_ref()),
            eps: 1e-7,
            heads: case.heads,
            scale: 0.1,
            dropouts,
        };
        layout.unpack(&layer.forward_by(kernels))
    }

    fn check(case: &Case, kernels: &Kernels) {
        let Case { runs, length, drops, is_packed, .. } = *case;
        let (frozen, capacity) = Frozen::draw(case);
        let rng = dropout_rng(runs);
        let dropouts = [1, 2, 3].map(|stream| Dropout { rng: drops.then_some(&rng), stream, p: 0.1 });
        let [half, full] = [Kind::BFloat16, Kind::Float].map(|kind| frozen.to_kind(kind));
        let layout = match is_packed {
            true => TokenLayout::packed(&frozen.is_token.to_kind(Kind::Int64), capacity),
            false => TokenLayout::padded(half.mask(Kind::BFloat16)),
        };
        // Padding is undefined.
        let tokens_of = |out: Tensor| {
            let is_token = frozen.is_token.view([-1, 1]);
            out.where_self(&is_token, &Tensor::zeros([1], (out.kind(), Device::Cpu)))
        };
        compare(
            &format!("layer of {runs} runs over {length}, {}", if is_packed { "packed" } else { "padded" }),
            (Kind::BFloat16, 4e-2),
            &case.inputs(),
            |x| tokens_of(by_kernels(x, (&half, &augmented(&half)), case, &layout, dropouts, kernels)),
            |x| tokens_of(reference(x, &full, case, dropouts)),
        );
    }

    #[test]
    fn the_kernels_compute_what_the_operations_compute() {
        in_every_schedule(|kernels| {
            for (runs, rows, length, [heads, head], r, has_positions, drops) in [
                (1, 3, 40, [1, 64], 8, true, true),
                (2, 2, 24, [2, 64], 8, true, true),
                (3, 2, 17, [3, 32], 8, false, true),
                (1, 3, 70, [2, 32], 8, true, false),
                // Branches wider than what is reserved behind the weights, rows of several tiles, several rows a chunk.
                (3, 5, 75, [1, 64], 24, true, true),
            ] {
                for is_packed in [false, true] {
                    check(&Case { runs, rows, length, heads, head, r, has_positions, drops, is_packed }, kernels);
                }
            }
        });
    }

    /// A pass writes its branches into the augmented weights, which several passes share.
    #[test]
    fn a_pass_in_between_changes_no_gradient() {
        let case = Case {
            runs: 2,
            rows: 2,
            length: 9,
            heads: 1,
            head: 32,
            r: 8,
            has_positions: false,
            drops: false,
            is_packed: false,
        };
        let frozen = Frozen::draw(&case).0.to_kind(Kind::BFloat16);
        let inputs = || {
            let leaf = |x: Tensor| x.to_kind(Kind::BFloat16).set_requires_grad(true);
            case.inputs().into_iter().map(leaf).collect::<Vec<_>>()
        };
        let layout = TokenLayout::padded(frozen.mask(Kind::BFloat16));
        let dropouts = [1, 2, 3].map(|stream| Dropout { rng: None, stream, p: 0.0 });
        in_every_schedule(|kernels| {
            let augmented = augmented(&frozen);
            let pass = |x: &[Tensor]| by_kernels(x, (&frozen, &augmented), &case, &layout, dropouts, kernels);
            let gradients =
                |out: Tensor, x: &[Tensor]| Tensor::run_backward(&[out.square().sum(Kind::Float)], x, false, false);
            let (x, others) = (inputs(), inputs());
            let want = gradients(pass(&x), &x);
            let out = pass(&x);
            let _ = pass(&others);
            for (index, (got, want)) in gradients(out, &x).iter().zip(&want).enumerate() {
                assert!(got.equal(want), "gradient {index}");
            }
        });
    }
}
