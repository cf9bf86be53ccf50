//! The classification head as a list of named tensors: whoever trains owns them.

use tch::{Device, Kind, Tensor};

use crate::nn::parts::Dims;

/// Start values of a classification head.
pub struct Head {
    /// Its tensors, in the order [`crate::encoder::Encoder::logits`] takes them.
    pub params: Vec<HeadParam>,
}

/// One tensor of a head.
pub struct HeadParam {
    /// Hugging Face name, e.g. `classifier.weight`.
    pub name: String,
    /// Start value.
    pub init: Tensor,
    /// Whether weight decay applies (weights yes, biases no).
    pub decayed: bool,
    /// Whether the start value is the checkpoint's.
    pub is_pretrained: bool,
}

/// `x W^T + b` of a head's linear, or of one a run: `x` holds their rows run by run, and weight and bias are stacks.
pub(crate) fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    if weight.dim() == 2 {
        return x.linear(weight, Some(bias));
    }
    let of_runs = x.reshape([weight.size()[0], -1, x.size()[1]]);
    bias.unsqueeze(1).baddbmm(&of_runs, &weight.transpose(1, 2), 1.0, 1.0).flatten(0, 1)
}

impl Head {
    /// Two linears, `[hidden, hidden]` and `[outputs, hidden]`: weights N(0, initializer_range), biases 0, and the first
    /// as pre-trained where the checkpoint has it.
    pub(crate) fn new(
        names: [&str; 2],
        dims: &Dims,
        outputs: i64,
        seed: i64,
        pretrained: Option<&[Tensor; 2]>,
    ) -> Self {
        tch::manual_seed(seed);
        let hidden = dims.hidden;
        let like = (Kind::Float, Device::Cpu);
        let normal = |shape: [i64; 2]| Tensor::randn(shape, like) * dims.initializer_range;
        // Both are always drawn, so that the classifier does not depend on whether the checkpoint has the first.
        let (drawn, classifier) = (normal([hidden, hidden]), normal([outputs, hidden]));
        let [first, first_bias] = match pretrained {
            Some(linear) => linear.each_ref().map(Tensor::shallow_clone),
            None => [drawn, Tensor::zeros([hidden], like)],
        };
        let tensors = [[first, first_bias], [classifier, Tensor::zeros([outputs], like)]];
        let linear = |((name, [weight, bias]), is_pretrained): ((&str, [Tensor; 2]), bool)| {
            [
                HeadParam { name: format!("{name}.weight"), init: weight, decayed: true, is_pretrained },
                HeadParam { name: format!("{name}.bias"), init: bias, decayed: false, is_pretrained },
            ]
        };
        let is_pretrained = [pretrained.is_some(), false];
        Head { params: names.into_iter().zip(tensors).zip(is_pretrained).flat_map(linear).collect() }
    }

    /// Values of such a head.
    pub(crate) fn len(hidden: i64, outputs: i64) -> i64 {
        (hidden + outputs) * (hidden + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_side_by_side_have_a_linear_each() {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Double, Device::Cpu));
        // First positions of [rows, length, hidden]: lines apart.
        let (x, weights, biases) = (random(&[6, 4, 5]).select(1, 0), random(&[3, 2, 5]), random(&[3, 2]));
        let one = |run: i64| linear(&x.narrow(0, 2 * run, 2), &weights.get(run), &biases.get(run));
        let want = Tensor::cat(&[one(0), one(1), one(2)], 0);
        assert!((linear(&x, &weights, &biases) - want).abs().max().double_value(&[]) < 1e-12);
    }
}
