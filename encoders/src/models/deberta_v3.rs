//! DeBERTaV3 (He et al. 2021): the DeBERTa-v2 architecture as v3 uses it, `DebertaV2ForSequenceClassification` of
//! transformers, frozen.
//!
//! Disentangled attention adds two terms to a score: content to position `q_i · K_r(δ)` and position to content
//! `k_j · Q_r(δ)` for the distance `δ = i - j`, where `K_r` and `Q_r` are the layer's own key and query projections of
//! the relative embeddings (`torch_ext::ops::attention`).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::checkpoint::claims::Size;
use crate::checkpoint::reader::Reader;
use crate::config::Config;
use crate::encoder::{Encoder, EncoderEntry, EncoderInfo};
use crate::error::Result;
use crate::nn::dims::{Defaults, Dims};
use crate::nn::distances::{Distances, Reach};
use crate::nn::head::{Head, first_token, linear};
use crate::nn::layer::ModuleNames;
use crate::nn::modules::{Embedding, LayerNorm};
use crate::nn::post_norm::PostNormEncoder;
use crate::pass::streams::{self, InLayer};
use crate::pass::{LayerObserver, Pass, TokenBatch};

/// Registry line.
pub static ENTRY: EncoderEntry = EncoderEntry {
    model_type: "deberta-v2",
    architecture: "DebertaV2ForSequenceClassification",
    prefix: PREFIX,
    ignored: &["embeddings.position_embeddings."],
    tiny: r#"{"model_type": "deberta-v2", "hidden_act": "gelu", "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 64, "max_position_embeddings": 40,
        "type_vocab_size": 0, "layer_norm_eps": 1e-7, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
        "relative_attention": true, "position_buckets": 8, "max_relative_positions": -1, "norm_rel_ebd": "layer_norm",
        "share_att_key": true, "pos_att_type": "p2c|c2p", "position_biased_input": false}"#,
    build: |config, reader| Ok(Box::new(DebertaV3::new(config, reader)?)),
};

const PREFIX: &str = "deberta.";
/// Those of `DebertaV2Config`.
const DEFAULTS: Defaults =
    Defaults { hidden: 1536, layer_count: 24, heads: 24, intermediate: 6144, vocab: 128100, eps: 1e-7 };
const MODULES: ModuleNames = [
    "attention.self.query_proj",
    "attention.self.key_proj",
    "attention.self.value_proj",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
];

/// The frozen encoder.
pub struct DebertaV3 {
    encoder: PostNormEncoder,
    pooler_dropout: f64,
    classifier_dropout: f64,
    buckets: Buckets,
    word: Embedding,
    norm: LayerNorm,
    /// `[2 * span, hidden]`: a row for every bucket.
    relative: Embedding,
    relative_norm: LayerNorm,
    pooler: Option<[Tensor; 2]>,
    reaches: RefCell<BTreeMap<i64, Rc<Reach>>>,
}

/// How a distance becomes a row of the relative embeddings.
struct Buckets {
    /// Rows on each side; the row of a bucket is `bucket + span`.
    span: i64,
    /// Longest distance that has a bucket of its own.
    max_position: i64,
}

impl Buckets {
    fn read(config: &Config, dims: &Dims) -> Result<Self> {
        let given = config.integer_or_none("max_relative_positions")?.filter(|&given| given >= 1);
        let max_position = given.unwrap_or(dims.positions);
        let span = config.count("position_buckets")?;
        // The logarithmic buckets lie between half the span and the longest distance.
        if span < 2 || max_position - 1 <= span / 2 {
            let expected = format!("at least 2 and at most about twice the longest distance {max_position}");
            return Err(config.wrong("position_buckets", expected, &json!(span)));
        }
        Ok(Buckets { span, max_position })
    }

    /// Buckets of the distances `-reach ..= reach`, `[2 reach + 1]`: exact up to half the span, then logarithmic. The
    /// same float32 operations as the reference's, so that no distance is rounded into another bucket.
    fn of_distances(&self, reach: i64) -> Tensor {
        let distance = Tensor::arange_start(-reach, reach + 1, (Kind::Int64, Device::Cpu));
        let half = self.span / 2;
        let far = distance.abs().clamp_min(half - 1);
        let scale = Tensor::from(((self.max_position - 1) as f64 / half as f64) as f32).log();
        let log = ((far.to_kind(Kind::Float) / half as f64).log() / scale * (half - 1) as f64).ceil() + half as f64;
        let log = log.to_kind(Kind::Int64) * distance.sign();
        distance.where_self(&far.le(half), &log)
    }

    fn reach(&self, length: i64, device: Device) -> Reach {
        // Up to half the span a distance is its own bucket, and there is a row for the one that no pair has.
        if length <= self.span / 2 {
            return Reach { first: self.span - length + 1, count: 2 * length, buckets: None };
        }
        let rows = (self.of_distances(length - 1) + self.span).clamp(0, 2 * self.span - 1);
        let (first, last) = (rows.min().int64_value(&[]), rows.max().int64_value(&[]));
        let rows = Tensor::cat(&[&rows, &rows.narrow(0, -1, 1)], 0) - first;
        Reach { first, count: last - first + 1, buckets: Some(rows.to_device(device)) }
    }
}

impl DebertaV3 {
    /// Takes its tensors.
    ///
    /// # Errors
    /// An option that is not supported.
    pub fn new(config: &Config, reader: &Reader) -> Result<Self> {
        let dims = Dims::read(config, &DEFAULTS)?;
        check(config, &dims)?;
        let buckets = Buckets::read(config, &dims)?;
        let (rows, positions) = (buckets.span.saturating_mul(2), dims.positions);
        let (option, tensor) = ("twice position_buckets", "encoder.rel_embeddings.weight");
        dims.check(config, reader, &[Size { option, value: rows, tensor, dimension: 0 }])?;
        let norm = |name: &str| LayerNorm::read(reader, name, dims.hidden, dims.eps, true);
        Ok(DebertaV3 {
            pooler_dropout: config.rate_or_none("pooler_dropout")?.unwrap_or(0.0),
            classifier_dropout: config.rate_or_none("cls_dropout")?.unwrap_or(dims.dropout),
            pooler: reader.take_linear_of_head("pooler.dense", dims.hidden),
            word: Embedding::read(reader, "embeddings.word_embeddings", [dims.vocab, dims.hidden]),
            norm: norm("embeddings.LayerNorm"),
            relative: Embedding::read(reader, "encoder.rel_embeddings", [rows, dims.hidden]),
            relative_norm: norm("encoder.LayerNorm"),
            encoder: PostNormEncoder::read(reader, dims, PREFIX, &MODULES, positions),
            buckets,
            reaches: RefCell::default(),
        })
    }

    /// Made once a length.
    fn reach(&self, length: i64, device: Device) -> Rc<Reach> {
        let mut known = self.reaches.borrow_mut();
        Rc::clone(known.entry(length).or_insert_with(|| Rc::new(self.buckets.reach(length, device))))
    }

    /// sqrt of three terms times the head's width; the reference rounds it to float32 in every precision.
    fn score_scale(&self) -> f64 {
        f64::from((3.0 * (self.encoder.dims.hidden / self.encoder.dims.heads) as f32).sqrt())
    }

    /// The relative embeddings within reach, `[rows, hidden]`, for every run with its own dropout.
    fn drop_distances(&self, relative: &Tensor, reach: &Rc<Reach>, layer: usize, pass: Pass) -> Distances {
        let dropout = pass.dropout(streams::of_layer(layer, InLayer::Distances), self.encoder.dims.dropout);
        let (runs, count) = (dropout.runs(), reach.count);
        let relative = relative.expand([runs, -1, -1], false).reshape([runs * count, -1]);
        Distances { rows: dropout.shared(&relative, count, reach.first), reach: Rc::clone(reach) }
    }
}

fn check(config: &Config, dims: &Dims) -> Result<()> {
    config.check_activation("pooler_hidden_act")?;
    let fixed = [
        ("relative_attention", json!(true)),
        ("position_biased_input", json!(false)),
        ("norm_rel_ebd", json!("layer_norm")),
        ("share_att_key", json!(true)),
        ("type_vocab_size", json!(0)),
        ("conv_kernel_size", json!(0)),
        ("pooler_hidden_size", json!(dims.hidden)),
        ("embedding_size", json!(dims.hidden)),
        ("attention_head_size", json!(dims.hidden / dims.heads)),
        ("conv_act", json!("tanh")),
        ("conv_groups", json!(1)),
        ("z_steps", json!(0)),
    ];
    let used = [
        "cls_dropout",
        "legacy",
        "max_relative_positions",
        "pooler_dropout",
        "pooler_hidden_act",
        "pos_att_type",
        "position_buckets",
    ];
    config.check(&[Dims::USED, &used].concat(), &fixed)?;
    // Where these are absent, the reference computes something else.
    for option in ["relative_attention", "position_biased_input", "norm_rel_ebd", "share_att_key"] {
        config.require(option)?;
    }
    let kinds = config.require("pos_att_type")?;
    let mut named: Vec<&str> = match kinds {
        Value::String(text) => text.split('|').collect(),
        other => other.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
    };
    named.sort_unstable();
    if named != ["c2p", "p2c"] {
        return Err(config.wrong("pos_att_type", "c2p and p2c".into(), kinds));
    }
    let hidden = config.count("hidden_size")?;
    match config.integer_or_none("pooler_hidden_size")? {
        Some(width) if width != hidden => {
            Err(config.wrong("pooler_hidden_size", format!("hidden_size {hidden}"), &json!(width)))
        }
        _ => Ok(()),
    }
}

impl Encoder for DebertaV3 {
    fn info(&self) -> &EncoderInfo {
        &self.encoder.info
    }

    fn embed(&self, batch: &TokenBatch, pass: Pass) -> Tensor {
        let embedded = self.norm.forward(&self.word.lookup(&batch.input_ids, pass), pass);
        let embedded = &embedded * batch.attention_mask.unsqueeze(-1).to_kind(embedded.kind());
        self.encoder.drop_embeddings(&embedded, pass)
    }

    fn encode(&self, embedded: &Tensor, batch: &TokenBatch, pass: Pass, observe: LayerObserver) -> Tensor {
        let reach = self.reach(batch.input_ids.size()[1], embedded.device());
        let within = self.relative.0.of(pass).narrow(0, reach.first, reach.count);
        let relative = self.relative_norm.forward(&within, pass);
        let of_layer = |layer: usize| Some(self.drop_distances(&relative, &reach, layer, pass));
        self.encoder.encode(embedded, batch, self.score_scale().recip(), pass, of_layer, observe)
    }

    fn packs(&self, pass: Pass) -> bool {
        self.encoder.packs(pass)
    }

    fn new_head(&self, num_labels: i64, seed: i64) -> Head {
        Head::two_linears(["pooler.dense", "classifier"], &self.encoder.dims, num_labels, seed, self.pooler.as_ref())
    }

    fn logits(&self, last_hidden_state: &Tensor, _batch: &TokenBatch, head: &[Tensor], pass: Pass) -> Tensor {
        let drop = |x: &Tensor, stream: i64, p: f64| pass.dropout(stream, p).hidden(x, 1, 0);
        let first = drop(&first_token(last_hidden_state, head), streams::POOLER, self.pooler_dropout);
        let pooled = linear(&first, &head[0], Some(&head[1])).gelu("none");
        linear(&drop(&pooled, streams::CLASSIFIER, self.classifier_dropout), &head[2], Some(&head[3]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distances at which a bucket past 128 begins, 129 first, as transformers 4.57.1 gives them:
    /// `make_log_bucket_position(torch.arange(-511, 512), 256, 512)`.
    const FIRST_OF_BUCKET: [i64; 127] = [
        129, 130, 131, 133, 134, 136, 137, 139, 140, 142, 143, 145, 146, 148, 150, 151, 153, 155, 156, 158, 160, 161,
        163, 165, 167, 169, 170, 172, 174, 176, 178, 180, 182, 184, 186, 188, 190, 192, 194, 196, 198, 201, 203, 205,
        207, 210, 212, 214, 216, 219, 221, 224, 226, 229, 231, 234, 236, 239, 241, 244, 247, 249, 252, 255, 258, 260,
        263, 266, 269, 272, 275, 278, 281, 284, 287, 290, 294, 297, 300, 303, 307, 310, 313, 317, 320, 324, 327, 331,
        335, 338, 342, 346, 349, 353, 357, 361, 365, 369, 373, 377, 381, 385, 390, 394, 398, 403, 407, 411, 416, 420,
        425, 430, 434, 439, 444, 449, 454, 459, 464, 469, 474, 479, 484, 490, 495, 500, 506,
    ];

    fn buckets(span: i64, max_position: i64) -> Vec<i64> {
        Vec::try_from(Buckets { span, max_position }.of_distances(max_position - 1)).unwrap()
    }

    #[test]
    fn every_distance_up_to_511_has_the_references_bucket() {
        let got = buckets(256, 512);
        assert_eq!(got.len(), 1023);
        for distance in 0..512i64 {
            let later = FIRST_OF_BUCKET.iter().filter(|&&first| first <= distance).count() as i64;
            let want = if distance <= 128 { distance } else { 128 + later };
            assert_eq!(got[(511 + distance) as usize], want, "distance {distance}");
            assert_eq!(got[(511 - distance) as usize], -want, "distance -{distance}");
        }
    }

    #[test]
    fn only_rows_within_reach_are_projected() {
        let buckets = Buckets { span: 256, max_position: 512 };
        for (length, first, count) in
            [(1, 256, 2), (10, 247, 20), (128, 129, 256), (129, 128, 257), (320, 44, 425), (512, 1, 511)]
        {
            let reach = buckets.reach(length, Device::Cpu);
            assert_eq!((reach.first, reach.count), (first, count), "length {length}");
        }
    }
}
