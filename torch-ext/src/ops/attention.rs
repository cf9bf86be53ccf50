//! Attention with dropout, and with DeBERTa's position terms where there are any.

use std::ffi::{c_int, c_longlong, c_void};

use tch::{Device, Kind, Tensor};

use crate::error::{as_ptr, check, out_tensor};
use crate::ffi::Kernels;
use crate::nvrtc;
use crate::ops::dropout::{Dropout, DropoutRng};

unsafe extern "C" {
    fn rb_has_cpu_attention() -> c_int;
    fn rb_cpu_attention(
        projected: *const c_void,
        mask: *const c_void,
        state: *const c_void,
        stream: c_longlong,
        p: f64,
        heads: c_longlong,
        scale: f64,
        out: *mut *mut c_void,
    ) -> c_int;
}

/// Arguments of self-attention.
pub struct Attention<'a> {
    /// Columns q | k | v, `[tokens, 3 * heads * head]`: for each run the tokens of its rows, `[rows * length]`, and with positions
    /// those of the distances `1 - length` to `length - 1` and of one more that no pair has, `[2 length]`. A distance's key and query
    /// add `q_i · k(i - j)` and `k_j · q(i - j)` to a score before its scale.
    pub projected: &'a Tensor,
    /// Whether there are distances.
    pub has_positions: bool,
    /// Added to the scores, `[runs * rows, 1, 1, length]`.
    pub mask: &'a Tensor,
    /// Attention heads.
    pub heads: i64,
    /// Factor of the scores.
    pub scale: f64,
    /// Dropout of the weights.
    pub dropout: Dropout<'a>,
}

/// Whether attention has kernels for heads of this width in the kind of `x`.
pub(crate) fn supports_head(x: &Tensor, head: i64) -> bool {
    x.kind() == Kind::BFloat16 && nvrtc::has_head_width(head)
}

/// Whether a CPU has attention as one function for heads of this width in the kind of `x`: one with AVX-512 for those of whole
/// vectors.
fn supports_head_on_cpu(x: &Tensor, head: i64) -> bool {
    // SAFETY: a plain integer crosses.
    let has_vectors = || unsafe { rb_has_cpu_attention() } != 0;
    x.device() == Device::Cpu && matches!(x.kind(), Kind::Float | Kind::BFloat16) && head % 16 == 0 && has_vectors()
}

impl Attention<'_> {
    /// The context, `[runs * rows * length, heads * head]`.
    pub fn context(&self) -> Tensor {
        let head = self.projected.size()[1] / (3 * self.heads);
        match (self.dropout.rng, nvrtc::kernels(self.projected)) {
            (Some(rng), Some(kernels)) if supports_head(self.projected, head) => self.context_by(kernels, rng),
            (Some(rng), None) if !self.has_positions && supports_head_on_cpu(self.projected, head) => {
                self.context_on_cpu(rng)
            }
            _ => self.reference(),
        }
    }

    fn context_by(&self, kernels: &Kernels, rng: &DropoutRng) -> Tensor {
        let [projected, mask, state] = [self.projected, self.mask, &rng.state].map(as_ptr);
        let Dropout { stream, p, .. } = self.dropout;
        let call = kernels.attention;
        out_tensor(|out| {
            // SAFETY: the tensors outlive the call.
            kernels.check(unsafe { call(projected, mask, state, stream, p, self.heads, self.scale, out) })
        })
    }

    fn context_on_cpu(&self, rng: &DropoutRng) -> Tensor {
        let [projected, mask, state] = [self.projected, self.mask, &rng.state].map(as_ptr);
        let Dropout { stream, p, .. } = self.dropout;
        out_tensor(|out| {
            // SAFETY: the tensors outlive the call.
            check(unsafe { rb_cpu_attention(projected, mask, state, stream, p, self.heads, self.scale, out) })
        })
    }

    /// Reference implementation. It scales the query before its products, which keeps half precision away from its bound.
    fn reference(&self) -> Tensor {
        let (rows, _, _, length) = self.mask.size4().unwrap_or_default();
        let runs = self.dropout.runs();
        let tokens = self.projected.view([runs, -1, self.projected.size()[1]]);
        let content = rows / runs * length;
        // Gradients of splits are concatenated once; those of slices would be added up slice by slice.
        let parts = if self.has_positions { tokens.split_with_sizes([content, 2 * length], 1) } else { vec![tokens] };
        let projections = |part: &Tensor| {
            let mut chunks = part.chunk(3, -1).into_iter();
            std::array::from_fn(|_| chunks.next().unwrap_or_default())
        };
        let [query, key, value] = projections(&parts[0]);
        let query = query * self.scale;
        let bias = if let Some(distances) = parts.get(1) {
            let [queries, keys, _] = projections(distances);
            let content = self.by_distance(&query, &from_last(&keys));
            let position = self.by_distance(&key, &(queries * self.scale));
            position_bias(&content, &position, self.mask)
        } else {
            self.mask.to_kind(query.kind())
        };
        let [query, key, value] =
            [query, key, value].map(|x| x.reshape([rows, length, self.heads, -1]).transpose(1, 2));
        let context = match self.dropout.rng {
            None => {
                let bias = bias.expand([rows, -1, length, length], true);
                Tensor::scaled_dot_product_attention(&query, &key, &value, Some(&bias), 0.0, false, Some(1.0), false)
            }
            // libtorch's own attention draws numbers that depend on its shape.
            Some(_) => {
                let weights = (query.matmul(&key.transpose(-1, -2)) + bias).softmax(-1, query.kind());
                self.dropout.weights(&weights).matmul(&value)
            }
        };
        context.transpose(1, 2).reshape([rows * length, -1])
    }

    /// `[runs * heads, rows * length, 2 length]`: the product of each position of `content` (`[runs, rows * length, width]`)
    /// with each distance (`[runs, 2 length, width]`).
    fn by_distance(&self, content: &Tensor, distances: &Tensor) -> Tensor {
        let of_heads = |x: &Tensor| x.unflatten(2, [self.heads, -1]);
        of_heads(content).transpose(1, 2).matmul(&of_heads(distances).permute([0, 2, 3, 1])).flatten(0, 1)
    }
}

/// Distances (`[runs, 2 length, width]`) in reverse, from `length - 1` down. The last, which no pair has, stays last.
fn from_last(distances: &Tensor) -> Tensor {
    let count = distances.size()[1] - 1;
    Tensor::cat(&[distances.narrow(1, 0, count).flip([1]), distances.narrow(1, count, 1)], 1)
}

/// Bias of the scores, `[runs * rows, heads, length, length]`: the two products by distance
/// (`[runs * heads, rows * length, 2 length]`), and the mask (`[runs * rows, 1, 1, length]`).
fn position_bias(content: &Tensor, position: &Tensor, mask: &Tensor) -> Tensor {
    let (rows, _, _, length) = mask.size4().unwrap_or_default();
    let runs = rows * length / content.size()[1];
    match nvrtc::kernels(content) {
        Some(kernels) if runs == 1 => position_bias_by(kernels, content, position, mask),
        _ => position_bias_reference(content, position, mask, runs),
    }
}

fn position_bias_by(kernels: &Kernels, content: &Tensor, position: &Tensor, mask: &Tensor) -> Tensor {
    let call = kernels.position_bias;
    // SAFETY: the tensors outlive the call.
    out_tensor(|out| kernels.check(unsafe { call(as_ptr(content), as_ptr(position), as_ptr(mask), out) }))
}

fn position_bias_reference(content: &Tensor, position: &Tensor, mask: &Tensor, runs: i64) -> Tensor {
    let (rows, _, _, length) = mask.size4().unwrap_or_default();
    let [content, position] = [content, position].map(|products| shifted(products, runs, rows / runs, length));
    content + position.transpose(-1, -2) + mask.to_kind(position.kind())
}

/// `[runs * rows, heads, length, length]`: for each position i of products `[runs * heads, rows * length, 2 length]` those
/// with the distances `length - 1 - i + j`. Every row begins one value earlier than the one before, so the result is a view.
fn shifted(products: &Tensor, runs: i64, rows: i64, length: i64) -> Tensor {
    let (all, width) = (products.size()[0], 2 * length);
    let flat = products.view([all, rows, length * width]);
    let rows_apart = flat.narrow(2, length - 1, length * (width - 1)).view([runs, all / runs, rows, length, width - 1]);
    rows_apart.narrow(4, 0, length).transpose(1, 2).reshape([runs * rows, all / runs, length, length])
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::emulator::{KINDS, compare, dropout_rng, in_every_schedule, random};

    const BFLOAT16: (Kind, f64) = KINDS[1];

    /// Padding at the end of rows, of 0 to 4 tokens.
    fn padded_rows(rows: i64, length: i64) -> Tensor {
        let ends = Tensor::arange(rows, (Kind::Int64, Device::Cpu)).unsqueeze(1).remainder(5) + (length - 5);
        let is_token = Tensor::arange(length, (Kind::Int64, Device::Cpu)).unsqueeze(0).le_tensor(&ends);
        ((is_token.to_kind(Kind::Float) - 1.0) * 1e30).view([rows, 1, 1, length])
    }

    #[test]
    fn the_kernels_compute_what_the_reference_computes() {
        in_every_schedule(|kernels| {
            for (runs, rows, heads, length, head, has_positions) in [
                (1, 2, 2, 64, 64, true),
                (2, 3, 1, 40, 64, true),
                // Several tiles; lengths that are no multiple of eight.
                (1, 1, 2, 139, 64, true),
                (3, 2, 2, 24, 64, false),
                (1, 2, 1, 200, 32, true),
                (2, 2, 2, 77, 32, false),
                // Several rows a chunk, the last chunk short, and distances that begin between groups of eight.
                (1, 17, 1, 75, 32, true),
                (2, 9, 1, 13, 64, true),
            ] {
                let tokens = runs * (rows + if has_positions { 2 } else { 0 }) * length;
                let mask = padded_rows(runs * rows, length);
                let rng = dropout_rng(runs);
                let attention = |x: &[Tensor], work: &dyn Fn(&Attention) -> Tensor| {
                    let mask = mask.to_kind(x[0].kind());
                    let dropout = Dropout { rng: Some(&rng), stream: 9, p: 0.1 };
                    work(&Attention { projected: &x[0], has_positions, mask: &mask, heads, scale: 0.1, dropout })
                };
                compare(
                    &format!("attention over {length} with heads of {head}"),
                    BFLOAT16,
                    &[random(&[tokens, 3 * heads * head])],
                    |x| attention(x, &|attention| attention.context_by(kernels, &rng)),
                    |x| attention(x, &|attention| attention.reference()),
                );
            }
        });
    }

    #[test]
    fn a_cpu_computes_what_the_reference_computes() {
        for kind in KINDS {
            for (runs, rows, heads, length, head) in
                [(1, 2, 3, 128, 32), (2, 2, 2, 139, 64), (3, 1, 1, 7, 16), (1, 5, 2, 49, 48), (1, 1, 1, 1, 32)]
            {
                let projected = [random(&[runs * rows * length, 3 * heads * head])];
                if !supports_head_on_cpu(&projected[0].to_kind(kind.0), head) {
                    eprintln!("skipped: this processor has no AVX-512");
                    return;
                }
                let mask = padded_rows(runs * rows, length);
                // A row of padding alone.
                let _ = mask.get(0).fill_(-1e30);
                let rng = dropout_rng(runs);
                let attention = |x: &[Tensor], work: &dyn Fn(&Attention) -> Tensor| {
                    let mask = mask.to_kind(x[0].kind());
                    let dropout = Dropout { rng: Some(&rng), stream: 9, p: 0.1 };
                    let has_positions = false;
                    work(&Attention { projected: &x[0], has_positions, mask: &mask, heads, scale: 0.1, dropout })
                };
                compare(
                    &format!("attention on a CPU over {length} with heads of {head}"),
                    kind,
                    &projected,
                    |x| attention(x, &|attention| attention.context_on_cpu(&rng)),
                    |x| attention(x, &|attention| attention.reference()),
                );
            }
        }
    }

    #[test]
    fn a_score_that_is_no_number_reaches_the_context() {
        let projected = random(&[40, 96]);
        if !supports_head_on_cpu(&projected, 32) {
            eprintln!("skipped: this processor has no AVX-512");
            return;
        }
        for (value, key) in [(f64::NAN, 3), (f64::NAN, 19), (f64::NAN, 39), (f64::INFINITY, 3)] {
            // One value of a key, which every query meets with a positive one; all others are finite.
            let projected = projected.copy();
            let _ = projected.narrow(1, 0, 1).fill_(1.0);
            let _ = projected.get(key).narrow(0, 32, 1).fill_(value);
            let rng = dropout_rng(1);
            let dropout = Dropout { rng: Some(&rng), stream: 9, p: 0.0 };
            let mask = Tensor::zeros([1, 1, 1, 40], (Kind::Float, Device::Cpu));
            let attention =
                Attention { projected: &projected, has_positions: false, mask: &mask, heads: 1, scale: 1.0, dropout };
            let is_nan = |context: Tensor| context.isnan().any().int64_value(&[]) == 1;
            assert!(is_nan(attention.reference()) && is_nan(attention.context_on_cpu(&rng)), "{value} at key {key}");
        }
    }

    #[test]
    fn the_position_bias_kernels_compute_what_the_reference_computes() {
        in_every_schedule(|kernels| {
            for kind in KINDS {
                for (rows, heads, length) in [(2, 3, 8), (1, 2, 45)] {
                    let mask = padded_rows(rows, length).clamp_min(-100.0);
                    let inputs = [0, 1].map(|_| random(&[heads, rows * length, 2 * length]));
                    compare(
                        &format!("position bias over {length}"),
                        kind,
                        &inputs,
                        |x| position_bias_by(kernels, &x[0], &x[1], &mask),
                        |x| position_bias_reference(&x[0], &x[1], &mask, 1),
                    );
                }
            }
        });
    }
}
