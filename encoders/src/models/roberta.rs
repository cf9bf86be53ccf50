//! RoBERTa (Liu et al. 2019): `RobertaForSequenceClassification` of transformers, frozen.

use serde_json::json;
use tch::{Kind, Tensor};

use crate::checkpoint::claims::Size;
use crate::checkpoint::reader::Reader;
use crate::config::Config;
use crate::encoder::{Encoder, EncoderEntry, EncoderInfo};
use crate::error::Result;
use crate::nn::dims::{Defaults, Dims};
use crate::nn::head::{Head, first_token, linear};
use crate::nn::layer::BERT_MODULES;
use crate::nn::modules::{Embedding, LayerNorm};
use crate::nn::post_norm::PostNormEncoder;
use crate::pass::{LayerObserver, Pass, TokenBatch, streams};

/// Registry line.
pub static ENTRY: EncoderEntry = EncoderEntry {
    model_type: "roberta",
    architecture: "RobertaForSequenceClassification",
    prefix: PREFIX,
    ignored: &["pooler."],
    tiny: r#"{"model_type": "roberta", "hidden_act": "gelu", "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 64, "max_position_embeddings": 42,
        "type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5, "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1}"#,
    build: |config, reader| Ok(Box::new(Roberta::new(config, reader)?)),
};

const PREFIX: &str = "roberta.";
/// Those of `RobertaConfig`.
const DEFAULTS: Defaults =
    Defaults { hidden: 768, layer_count: 12, heads: 12, intermediate: 3072, vocab: 50265, eps: 1e-12 };

/// The frozen encoder.
pub struct Roberta {
    encoder: PostNormEncoder,
    classifier_dropout: f64,
    pad_id: i64,
    word: Embedding,
    position: Embedding,
    token_type: Embedding,
    norm: LayerNorm,
}

impl Roberta {
    /// Takes its tensors.
    ///
    /// # Errors
    /// An option that is not supported.
    pub fn new(config: &Config, reader: &Reader) -> Result<Self> {
        let fixed = [("position_embedding_type", json!("absolute"))];
        config.check(&[Dims::USED, &["classifier_dropout", "type_vocab_size"]].concat(), &fixed)?;
        let dims = Dims::read(config, &DEFAULTS)?;
        let types = config.count_or("type_vocab_size", 2)?;
        let pad_id = config.integer_or("pad_token_id", 1)?;
        if !(0..dims.vocab).contains(&pad_id) {
            return Err(config.wrong("pad_token_id", format!("an id below vocab_size {}", dims.vocab), &json!(pad_id)));
        }
        let size = |option, value, tensor| Size { option, value, tensor, dimension: 0 };
        let sizes = [
            size("max_position_embeddings", dims.positions, "embeddings.position_embeddings.weight"),
            size("type_vocab_size", types, "embeddings.token_type_embeddings.weight"),
        ];
        dims.check(config, reader, &sizes)?;
        // Positions start behind the padding's: 514 rows are 512 tokens.
        let max_positions = dims.positions - pad_id - 1;
        if max_positions <= 0 {
            let expected = format!("more than pad_token_id + 1 = {}", pad_id + 1);
            return Err(config.wrong("max_position_embeddings", expected, &json!(dims.positions)));
        }
        Ok(Roberta {
            classifier_dropout: config.rate_or_none("classifier_dropout")?.unwrap_or(dims.dropout),
            pad_id,
            word: Embedding::read(reader, "embeddings.word_embeddings", [dims.vocab, dims.hidden]),
            position: Embedding::read(reader, "embeddings.position_embeddings", [dims.positions, dims.hidden]),
            token_type: Embedding::read(reader, "embeddings.token_type_embeddings", [types, dims.hidden]),
            norm: LayerNorm::read(reader, "embeddings.LayerNorm", dims.hidden, dims.eps, true),
            encoder: PostNormEncoder::read(reader, dims, PREFIX, &BERT_MODULES, max_positions),
        })
    }
}

impl Roberta {
    /// Its tokenizer knows one segment, the first.
    fn first_type(&self, pass: Pass) -> Tensor {
        let types = self.token_type.0.of(pass);
        if types.size()[0] == 1 { types.shallow_clone() } else { types.narrow(0, 0, 1) }
    }
}

impl Encoder for Roberta {
    fn info(&self) -> &EncoderInfo {
        &self.encoder.info
    }

    fn embed(&self, batch: &TokenBatch, pass: Pass) -> Tensor {
        let ids = &batch.input_ids;
        let is_token = ids.ne(self.pad_id).to_kind(Kind::Int64);
        let positions = is_token.cumsum(1, Kind::Int64) * &is_token + self.pad_id;
        let sum = self.word.lookup(ids, pass) + self.first_type(pass) + self.position.lookup(&positions, pass);
        self.encoder.drop_embeddings(&self.norm.forward(&sum, pass), pass)
    }

    fn encode(&self, embedded: &Tensor, batch: &TokenBatch, pass: Pass, observe: LayerObserver) -> Tensor {
        self.encoder.self_attention(embedded, batch, pass, observe)
    }

    fn packs(&self, pass: Pass) -> bool {
        self.encoder.packs(pass)
    }

    fn new_head(&self, num_labels: i64, seed: i64) -> Head {
        Head::two_linears(["classifier.dense", "classifier.out_proj"], &self.encoder.dims, num_labels, seed, None)
    }

    fn logits(&self, last_hidden_state: &Tensor, _batch: &TokenBatch, head: &[Tensor], pass: Pass) -> Tensor {
        let drop = |x: &Tensor, stream: i64| pass.dropout(stream, self.classifier_dropout).hidden(x, 1, 0);
        let first = drop(&first_token(last_hidden_state, head), streams::POOLER);
        let inner = drop(&linear(&first, &head[0], Some(&head[1])).tanh(), streams::CLASSIFIER);
        linear(&inner, &head[2], Some(&head[3]))
    }
}
