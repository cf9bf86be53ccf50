//! `ModernBertPredictionHead` of transformers and the classifier behind it.

use tch::{Device, Kind, Tensor};

use crate::checkpoint::reader::Reader;
use crate::models::modernbert::options::Options;
use crate::nn::head::{Head, HeadParam, first_token, layer_norm, linear};
use crate::pass::{Pass, TokenBatch, streams};

/// Parameters of the prediction head that the checkpoint of a masked language model has.
pub(crate) struct PredictionHead {
    dense: Option<Tensor>,
    dense_bias: Option<Tensor>,
    norm: Option<Tensor>,
    norm_bias: Option<Tensor>,
}

impl PredictionHead {
    pub fn read(reader: &Reader, options: &Options) -> Self {
        let take = |name: &str, shape: &[i64]| reader.take_of_head(&format!("head.{name}"), shape);
        let hidden = options.hidden;
        PredictionHead {
            dense: take("dense.weight", &[hidden, hidden]),
            dense_bias: if options.classifier_bias { take("dense.bias", &[hidden]) } else { None },
            norm: take("norm.weight", &[hidden]),
            norm_bias: if options.norm_bias { take("norm.bias", &[hidden]) } else { None },
        }
    }

    /// A head as transformers starts it: weights from a normal distribution that is cut off, norms 1, biases 0.
    pub fn start(&self, options: &Options, layer_count: usize, num_labels: i64, seed: i64) -> Head {
        tch::manual_seed(seed);
        let (hidden, like) = (options.hidden, (Kind::Float, Device::Cpu));
        let deviation = options.initializer_range / (2.0 * layer_count as f64).sqrt();
        // Both are always drawn, so that the classifier does not depend on whether the checkpoint has the first.
        let dense = truncated_normal([hidden, hidden], deviation, options.cutoff);
        let classifier = truncated_normal([num_labels, hidden], (hidden as f64).sqrt().recip(), options.cutoff);
        let (zeros, ones) = (|n: i64| Tensor::zeros([n], like), |n: i64| Tensor::ones([n], like));
        let param = |name: &str, pretrained: &Option<Tensor>, new: Tensor, decayed: bool| HeadParam {
            name: name.into(),
            init: pretrained.as_ref().map_or(new, Tensor::shallow_clone),
            decayed,
            is_pretrained: pretrained.is_some(),
        };
        let mut params = vec![param("head.dense.weight", &self.dense, dense, true)];
        if options.classifier_bias {
            params.push(param("head.dense.bias", &self.dense_bias, zeros(hidden), false));
        }
        params.push(param("head.norm.weight", &self.norm, ones(hidden), false));
        if options.norm_bias {
            params.push(param("head.norm.bias", &self.norm_bias, zeros(hidden), false));
        }
        params.push(param("classifier.weight", &None, classifier, true));
        params.push(param("classifier.bias", &None, zeros(num_labels), false));
        Head { params }
    }
}

/// Logits of the head's tensors, in the order of [`PredictionHead::start`].
pub(crate) fn logits(options: &Options, last: &Tensor, batch: &TokenBatch, head: &[Tensor], pass: Pass) -> Tensor {
    let pooled = if options.is_mean_pooled { mean_of_tokens(last, batch, head) } else { first_token(last, head) };
    let mut index = 0..;
    let mut take = || &head[index.next().unwrap_or_default()];
    let (dense, dense_bias) = (take(), options.classifier_bias.then(&mut take));
    let (norm, norm_bias) = (take(), options.norm_bias.then(&mut take));
    let (classifier, bias) = (take(), take());
    let inner = linear(&pooled, dense, dense_bias).gelu("none");
    let inner = layer_norm(&inner, norm, norm_bias, options.eps);
    let dropped = pass.dropout(streams::CLASSIFIER, options.classifier_dropout).hidden(&inner, 1, 0);
    linear(&dropped, classifier, Some(bias))
}

/// The mean of every row's tokens, `[rows, hidden]`, in the head's precision.
fn mean_of_tokens(last: &Tensor, batch: &TokenBatch, head: &[Tensor]) -> Tensor {
    let kind = head[0].kind();
    let mask = batch.attention_mask.unsqueeze(-1).to_kind(kind);
    let sum = (last.to_kind(kind) * &mask).sum_dim_intlist([1i64].as_slice(), false, kind);
    sum / mask.sum_dim_intlist([1i64].as_slice(), false, kind)
}

/// Values of N(0, deviation²) within `cutoff` deviations, by the inverse of their distribution, as torch draws them.
fn truncated_normal(shape: [i64; 2], deviation: f64, cutoff: f64) -> Tensor {
    let root = std::f64::consts::SQRT_2;
    let end = Tensor::from(cutoff / root).erf().double_value(&[]);
    let uniform = Tensor::empty(shape, (Kind::Float, Device::Cpu)).uniform_(-end, end);
    let bound = cutoff * deviation;
    (uniform.erfinv() * (deviation * root)).clamp(-bound, bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_values_are_normal_and_cut_off() {
        tch::manual_seed(3);
        let drawn = truncated_normal([400, 400], 0.5, 2.0);
        assert!(drawn.abs().max().double_value(&[]) <= 1.0);
        // Standard deviation of a normal distribution cut off at two of its deviations: 0.8796.
        let deviation = drawn.std(true).double_value(&[]);
        assert!((deviation / 0.5 - 0.8796).abs() < 0.005, "{deviation}");
    }
}
