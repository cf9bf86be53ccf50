//! The classification head as a list of named tensors: the caller trains them.

use tch::{Device, Kind, Tensor};

use crate::nn::dims::Dims;

/// Start values of a classification head.
pub struct Head {
    /// Its tensors, in the order [`crate::encoder::Encoder::logits`] takes them.
    pub params: Vec<HeadParam>,
}

/// One tensor of a head.
pub struct HeadParam {
    /// Hugging Face name, e.g. `classifier.weight`.
    pub name: String,
    /// Start value, float32 where it is new.
    pub init: Tensor,
    /// Whether weight decay applies (weights of linears yes, biases and normalisation no).
    pub decayed: bool,
    /// Whether the start value is the checkpoint's.
    pub is_pretrained: bool,
}

/// `x W^T + b` of a head's linear. For stacked runs `x` holds their rows run by run, and weight and bias are stacks.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    if weight.dim() == 2 {
        return x.linear(weight, bias);
    }
    let of_runs = x.reshape([weight.size()[0], -1, x.size()[1]]);
    let y = match bias {
        Some(bias) => bias.unsqueeze(1).baddbmm(&of_runs, &weight.transpose(1, 2), 1.0, 1.0),
        None => of_runs.bmm(&weight.transpose(1, 2)),
    };
    y.flatten(0, 1)
}

/// Normalisation of a head's `x` over its last dimension. For stacked runs `x` holds their rows run by run, and weight
/// and bias are stacks.
pub(crate) fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Tensor {
    if weight.dim() == 1 {
        return x.layer_norm(weight.size(), Some(weight), bias, eps, true);
    }
    let (runs, width) = weight.size2().unwrap_or_default();
    let normed = x.layer_norm([width], None::<&Tensor>, None::<&Tensor>, eps, true).view([runs, -1, width]);
    let scaled = normed * weight.unsqueeze(1);
    bias.map_or(scaled.shallow_clone(), |bias| scaled + bias.unsqueeze(1)).flatten(0, 1)
}

/// The last hidden state of every row's first token, `[rows, hidden]`, in the head's precision.
pub(crate) fn first_token(last_hidden_state: &Tensor, head: &[Tensor]) -> Tensor {
    last_hidden_state.select(1, 0).to_kind(head[0].kind())
}

impl Head {
    /// Two linears, `[hidden, hidden]` and `[num_labels, hidden]`: weights N(0, initializer_range), biases 0, and the
    /// first as pre-trained where the checkpoint has it.
    pub(crate) fn two_linears(
        names: [&str; 2],
        dims: &Dims,
        num_labels: i64,
        seed: i64,
        pretrained: Option<&[Tensor; 2]>,
    ) -> Self {
        tch::manual_seed(seed);
        let hidden = dims.hidden;
        let like = (Kind::Float, Device::Cpu);
        let normal = |shape: [i64; 2]| Tensor::randn(shape, like) * dims.initializer_range;
        // Both are always drawn, so that the classifier does not depend on whether the checkpoint has the first.
        let (drawn, classifier) = (normal([hidden, hidden]), normal([num_labels, hidden]));
        let [first, first_bias] = match pretrained {
            Some(linear) => linear.each_ref().map(Tensor::shallow_clone),
            None => [drawn, Tensor::zeros([hidden], like)],
        };
        let tensors = [[first, first_bias], [classifier, Tensor::zeros([num_labels], like)]];
        let linear = |((name, [weight, bias]), is_pretrained): ((&str, [Tensor; 2]), bool)| {
            [
                HeadParam { name: format!("{name}.weight"), init: weight, decayed: true, is_pretrained },
                HeadParam { name: format!("{name}.bias"), init: bias, decayed: false, is_pretrained },
            ]
        };
        let is_pretrained = [pretrained.is_some(), false];
        Head { params: names.into_iter().zip(tensors).zip(is_pretrained).flat_map(linear).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacked_runs_have_a_linear_each() {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Double, Device::Cpu));
        // First tokens of [rows, length, hidden]: not contiguous.
        let (x, weights, biases) = (random(&[6, 4, 5]).select(1, 0), random(&[3, 2, 5]), random(&[3, 2]));
        for has_bias in [true, false] {
            let one = |run: i64| {
                let bias = has_bias.then(|| biases.get(run));
                linear(&x.narrow(0, 2 * run, 2), &weights.get(run), bias.as_ref())
            };
            let want = Tensor::cat(&[one(0), one(1), one(2)], 0);
            let got = linear(&x, &weights, has_bias.then_some(&biases));
            assert!((got - want).abs().max().double_value(&[]) < 1e-12);
        }
    }

    #[test]
    fn stacked_runs_have_a_norm_each() {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Double, Device::Cpu));
        let (x, weights, biases) = (random(&[6, 5]), random(&[3, 5]), random(&[3, 5]));
        for has_bias in [true, false] {
            let one = |run: i64| {
                let bias = has_bias.then(|| biases.get(run));
                layer_norm(&x.narrow(0, 2 * run, 2), &weights.get(run), bias.as_ref(), 1e-5)
            };
            let want = Tensor::cat(&[one(0), one(1), one(2)], 0);
            let got = layer_norm(&x, &weights, has_bias.then_some(&biases), 1e-5);
            assert!((got - want).abs().max().double_value(&[]) < 1e-12);
        }
    }
}
