//! Modules with frozen weights, which a method may replace or adapt.

use tch::Tensor;
use torch_ext::ops::dropout::Dropout;
use torch_ext::ops::lora_linear::lora_linear;
use torch_ext::ops::norm::drop_add_norm;

use crate::checkpoint::reader::Reader;
use crate::pass::{Pass, streams};
use crate::target::{LowRank, TargetModule};

/// One tensor of the backbone, or its trained replacement.
pub(crate) struct Weight {
    /// As in [`crate::encoder::EncoderInfo::weights`]; `None` where it is none of them.
    pub index: Option<usize>,
    pub tensor: Tensor,
}

impl Weight {
    pub fn read(reader: &Reader, name: &str, shape: &[i64]) -> Self {
        let (index, tensor) = reader.take(name, shape);
        Weight { index: Some(index), tensor }
    }

    /// Zeros in place of a bias that the module does not have: products with a branch need one.
    fn no_bias(reader: &Reader, width: i64) -> Self {
        let (device, kind) = reader.options();
        Weight { index: None, tensor: Tensor::zeros([width], (kind, device)) }
    }

    fn bias(reader: &Reader, name: &str, width: i64, has_bias: bool) -> Self {
        if has_bias { Weight::read(reader, &format!("{name}.bias"), &[width]) } else { Weight::no_bias(reader, width) }
    }

    pub fn of<'a>(&'a self, pass: Pass<'a>) -> &'a Tensor {
        self.index.and_then(|index| pass.attach.weight(index)).unwrap_or(&self.tensor)
    }
}

/// Vectors by id.
pub(crate) struct Embedding(pub Weight);

impl Embedding {
    pub fn read(reader: &Reader, name: &str, shape: [i64; 2]) -> Self {
        Embedding(Weight::read(reader, &format!("{name}.weight"), &shape))
    }

    pub fn lookup(&self, ids: &Tensor, pass: Pass) -> Tensor {
        Tensor::embedding(self.0.of(pass), ids, -1, false, false)
    }
}

/// A linear of the backbone.
pub(crate) struct Linear {
    pub weight: Weight,
    pub bias: Weight,
}

impl Linear {
    pub fn read(reader: &Reader, name: &str, [d_in, d_out]: [i64; 2], has_bias: bool) -> Self {
        Linear {
            weight: Weight::read(reader, &format!("{name}.weight"), &[d_out, d_in]),
            bias: Weight::bias(reader, name, d_out, has_bias),
        }
    }

    /// The linear of `x` `[tokens, d_in]` with the method's contribution at `module`. `dropped` gives what a dropout
    /// leaves of `x`.
    pub fn adapted(
        &self,
        module: &TargetModule,
        x: &Tensor,
        pass: Pass,
        dropped: impl Fn(Dropout) -> Tensor,
    ) -> Tensor {
        let Some(branch) = pass.attach.low_rank(module) else {
            return pass.attach.output(module, x, self.forward(x, pass));
        };
        let dropout = pass.drops(&branch).then(|| pass.dropout(streams::of_branch(module.index), branch.dropout));
        low_rank_linear(x, [self.weight.of(pass), self.bias.of(pass)], branch, dropout.map(dropped).as_ref())
    }

    /// The linear alone.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        x.linear(self.weight.of(pass), Some(self.bias.of(pass)))
    }
}

/// A linear of `x` `[tokens, d_in]` with a branch. `dropped` is what dropout leaves of the branch's input, where it
/// drops something: no product can then serve both, and none of the fused kernels does.
///
/// With a magnitude W, too, acts on it in the part that is scaled, as in PEFT: `x W^T + b + (m / ||W + U A|| - 1) d W^T
/// + m / ||W + U A|| (d A^T) U^T`.
pub fn low_rank_linear(x: &Tensor, [weight, bias]: [&Tensor; 2], branch: LowRank, dropped: Option<&Tensor>) -> Tensor {
    match (branch.magnitude, dropped) {
        (None, None) => lora_linear(x, [weight, bias], branch.factors()),
        (None, Some(dropped)) => x.linear(weight, Some(bias)) + products(dropped, branch.factors()),
        (Some(magnitude), None) => dora_linear(x, [weight, bias], branch.factors(), magnitude),
        (Some(magnitude), Some(dropped)) => {
            dora_linear(dropped, [weight, bias], branch.factors(), magnitude)
                + (x - dropped).linear(weight, None::<Tensor>)
        }
    }
}

/// `(x A^T) U^T`, `[tokens, d_out]`, run by run.
fn products(x: &Tensor, [a, u]: [&Tensor; 2]) -> Tensor {
    let runs = if a.dim() == 3 { a.size()[0] } else { 1 };
    let x = x.view([runs, -1, x.size()[1]]);
    x.matmul(&a.transpose(-1, -2)).matmul(&u.transpose(-1, -2)).flatten(0, 1)
}

/// `m / ||W + U A|| (x W^T + (x A^T) U^T) + b`, `[tokens, d_out]`: DoRA (Liu et al. 2024, eq. 11). The norm of
/// every row of `W + U A` is taken in the weight's kind and gets no gradient, as in PEFT.
pub fn dora_linear(x: &Tensor, [weight, bias]: [&Tensor; 2], [a, u]: [&Tensor; 2], magnitude: &Tensor) -> Tensor {
    let norm = tch::no_grad(|| {
        let adapted = weight + u.matmul(a).to_kind(weight.kind());
        row_norms(&adapted)
    });
    let y = lora_linear(x, [weight, &bias.zeros_like()], [a, u]);
    let runs = if magnitude.dim() == 2 { magnitude.size()[0] } else { 1 };
    let factor = (magnitude / norm).view([runs, 1, -1]).to_kind(y.kind());
    (y.view([runs, -1, y.size()[1]]) * factor).flatten(0, 1) + bias
}

/// Norm of every row of a weight `[.., d_out, d_in]`: `[.., d_out]`.
pub fn row_norms(weight: &Tensor) -> Tensor {
    weight.norm_scalaropt_dim(2, [-1i64].as_slice(), false)
}

/// Normalisation over the last dimension.
pub(crate) struct LayerNorm {
    pub weight: Weight,
    pub bias: Weight,
    eps: f64,
}

impl LayerNorm {
    pub fn read(reader: &Reader, name: &str, width: i64, eps: f64, has_bias: bool) -> Self {
        LayerNorm {
            weight: Weight::read(reader, &format!("{name}.weight"), &[width]),
            bias: Weight::bias(reader, name, width, has_bias),
            eps,
        }
    }

    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let (weight, bias) = (self.weight.of(pass), self.bias.of(pass));
        x.layer_norm(weight.size(), Some(weight), Some(bias), self.eps, true)
    }

    /// Of `dropout(x) + residual`.
    pub fn after(&self, x: &Tensor, residual: &Tensor, dropout: Dropout, length: i64, pass: Pass) -> Tensor {
        drop_add_norm(x, residual, [self.weight.of(pass), self.bias.of(pass)], self.eps, dropout, length)
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    /// DoRA's own form: `W' = m (W + U A) / ||W + U A||`, run by run.
    #[test]
    fn a_magnitude_scales_every_row_of_the_adapted_weight() {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Double, Device::Cpu));
        let (weight, bias, x) = (random(&[5, 4]), random(&[5]), random(&[6, 4]));
        let (a, u, magnitude) = (random(&[2, 3, 4]), random(&[2, 5, 3]), random(&[2, 5]));
        let one = |run: i64| {
            let adapted = &weight + u.get(run).matmul(&a.get(run));
            let norm = adapted.square().sum_dim_intlist([1i64].as_slice(), true, None::<Kind>).sqrt();
            let adapted = magnitude.get(run).unsqueeze(1) * adapted / norm;
            x.narrow(0, 3 * run, 3).linear(&adapted, Some(&bias))
        };
        let want = Tensor::cat(&[one(0), one(1)], 0);
        let error = |got: Tensor, want: &Tensor| (got - want).abs().max().double_value(&[]);
        assert!(error(dora_linear(&x, [&weight, &bias], [&a, &u], &magnitude), &want) < 1e-12);
        let (a, u, magnitude) = (a.get(1), u.get(1), magnitude.get(1));
        let alone = dora_linear(&x.narrow(0, 3, 3), [&weight, &bias], [&a, &u], &magnitude);
        assert!(error(alone, &want.narrow(0, 3, 3)) < 1e-12);
    }
}
