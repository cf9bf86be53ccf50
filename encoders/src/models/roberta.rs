//! RoBERTa (Liu et al. 2019): `RobertaForSequenceClassification` of transformers, frozen.

use serde_json::json;
use tch::{Kind, Tensor};
use torch_ext::ops::dropout::{Dropout, DropoutRng};

use crate::checkpoint::reader::Reader;
use crate::config::Config;
use crate::encoder::{Encoder, EncoderEntry};
use crate::error::Result;
use crate::nn::head::{Head, linear};
use crate::nn::parts::{BERT_MODULES, Defaults, Dims, Norm, Table, Trunk};
use crate::pass::{LayerObserver, TokenBatch};
use crate::pass::{Pass, place};

/// Registry line.
pub static ENTRY: EncoderEntry = EncoderEntry {
    model_type: "roberta",
    class: "Roberta",
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
    trunk: Trunk,
    classifier_dropout: f64,
    pad_id: i64,
    word: Table,
    position: Table,
    token_type: Table,
    norm: Norm,
}

impl Roberta {
    /// Takes its tensors.
    ///
    /// # Errors
    /// An option that is not supported.
    pub fn new(config: &Config, reader: &Reader) -> Result<Self> {
        let fixed = [
            ("position_embedding_type", json!("absolute")),
            ("is_decoder", json!(false)),
            ("is_encoder_decoder", json!(false)),
            ("add_cross_attention", json!(false)),
            ("pruned_heads", json!({})),
        ];
        config.check(&[Dims::USED, &["classifier_dropout", "type_vocab_size"]].concat(), &fixed)?;
        let dims = Dims::read(config, &DEFAULTS)?;
        let types = config.count_or("type_vocab_size", 2)?;
        let pad_id = config.integer_or("pad_token_id", 1)?;
        if !(0..dims.vocab).contains(&pad_id) {
            return Err(config.wrong("pad_token_id", format!("an id below vocab_size {}", dims.vocab), &json!(pad_id)));
        }
        let sizes = [
            ("max_position_embeddings", dims.positions, "embeddings.position_embeddings.weight", 0),
            ("type_vocab_size", types, "embeddings.token_type_embeddings.weight", 0),
        ];
        dims.hold(config, reader, &sizes)?;
        if dims.positions <= pad_id + 1 {
            let expected = format!("more than pad_token_id + 1 = {}", pad_id + 1);
            return Err(config.wrong("max_position_embeddings", expected, &json!(dims.positions)));
        }
        Ok(Roberta {
            classifier_dropout: config.rate_or_none("classifier_dropout")?.unwrap_or(dims.dropout),
            pad_id,
            word: Table::read(reader, "embeddings.word_embeddings", [dims.vocab, dims.hidden]),
            position: Table::read(reader, "embeddings.position_embeddings", [dims.positions, dims.hidden]),
            token_type: Table::read(reader, "embeddings.token_type_embeddings", [types, dims.hidden]),
            norm: Norm::read(reader, "embeddings.LayerNorm", &dims),
            trunk: Trunk::read(reader, dims, PREFIX, &BERT_MODULES),
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
    fn trunk(&self) -> &Trunk {
        &self.trunk
    }

    /// Positions start after the padding's: 514 rows are 512 tokens.
    fn max_positions(&self) -> usize {
        (self.trunk.dims.positions - self.pad_id - 1) as usize
    }

    fn embeddings(&self, inputs: &TokenBatch, pass: Pass) -> Tensor {
        let is_token = inputs.ids.ne(self.pad_id).to_kind(Kind::Int64);
        let positions = is_token.cumsum(1, Kind::Int64) * &is_token + self.pad_id;
        let sum = self.word.lookup(&inputs.ids, pass) + self.first_type(pass) + self.position.lookup(&positions, pass);
        self.trunk.drop_embeddings(&self.norm.forward(&sum, pass), pass)
    }

    fn layers(&self, embedded: &Tensor, inputs: &TokenBatch, pass: Pass, each: LayerObserver) -> Tensor {
        self.trunk.self_attended(embedded, inputs, pass, each)
    }

    fn head(&self, outputs: i64, seed: i64) -> Head {
        Head::new(["classifier.dense", "classifier.out_proj"], &self.trunk.dims, outputs, seed, None)
    }

    fn logits(&self, last_hidden: &Tensor, head: &[Tensor], dropout: Option<&DropoutRng>) -> Tensor {
        let drop = |x: &Tensor, place: i64| {
            Dropout { rng: dropout, stream: place, p: self.classifier_dropout }.hidden(x, 1, 0)
        };
        let first = drop(&last_hidden.select(1, 0).to_kind(head[0].kind()), place::POOLER);
        let inner = drop(&linear(&first, &head[0], &head[1]).tanh(), place::CLASSIFIER);
        linear(&inner, &head[2], &head[3])
    }
}
