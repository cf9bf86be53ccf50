//! BERT (Devlin et al. 2019), which MiniLM is too: `BertForSequenceClassification` of transformers, frozen.

use serde_json::json;
use tch::Tensor;
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
    model_type: "bert",
    class: "Bert",
    prefix: PREFIX,
    ignored: &[],
    tiny: r#"{"model_type": "bert", "hidden_act": "gelu", "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 64, "max_position_embeddings": 40,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}"#,
    build: |config, reader| Ok(Box::new(Bert::new(config, reader)?)),
};

const PREFIX: &str = "bert.";
/// Those of `BertConfig`.
const DEFAULTS: Defaults =
    Defaults { hidden: 768, layer_count: 12, heads: 12, intermediate: 3072, vocab: 30522, eps: 1e-12 };

/// The frozen encoder.
pub struct Bert {
    trunk: Trunk,
    classifier_dropout: f64,
    word: Table,
    position: Table,
    token_type: Table,
    norm: Norm,
    pooler: Option<[Tensor; 2]>,
}

impl Bert {
    /// Takes its tensors; the pooler is kept for the head where the checkpoint has one.
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
        let hidden = dims.hidden;
        let types = config.count_or("type_vocab_size", 2)?;
        let sizes = [
            ("max_position_embeddings", dims.positions, "embeddings.position_embeddings.weight", 0),
            ("type_vocab_size", types, "embeddings.token_type_embeddings.weight", 0),
        ];
        dims.hold(config, reader, &sizes)?;
        Ok(Bert {
            classifier_dropout: config.rate_or_none("classifier_dropout")?.unwrap_or(dims.dropout),
            pooler: reader.take_linear_of_head("pooler.dense", hidden),
            word: Table::read(reader, "embeddings.word_embeddings", [dims.vocab, hidden]),
            position: Table::read(reader, "embeddings.position_embeddings", [dims.positions, hidden]),
            token_type: Table::read(reader, "embeddings.token_type_embeddings", [types, hidden]),
            norm: Norm::read(reader, "embeddings.LayerNorm", &dims),
            trunk: Trunk::read(reader, dims, PREFIX, &BERT_MODULES),
        })
    }
}

impl Encoder for Bert {
    fn trunk(&self) -> &Trunk {
        &self.trunk
    }

    fn max_positions(&self) -> usize {
        self.trunk.dims.positions as usize
    }

    fn embeddings(&self, inputs: &TokenBatch, pass: Pass) -> Tensor {
        let length = inputs.ids.size()[1];
        let sum = self.word.lookup(&inputs.ids, pass)
            + self.token_type.lookup(&inputs.type_ids, pass)
            + self.position.0.of(pass).narrow(0, 0, length);
        self.trunk.drop_embeddings(&self.norm.forward(&sum, pass), pass)
    }

    fn layers(&self, embedded: &Tensor, inputs: &TokenBatch, pass: Pass, each: LayerObserver) -> Tensor {
        self.trunk.self_attended(embedded, inputs, pass, each)
    }

    fn head(&self, outputs: i64, seed: i64) -> Head {
        Head::new(["bert.pooler.dense", "classifier"], &self.trunk.dims, outputs, seed, self.pooler.as_ref())
    }

    fn logits(&self, last_hidden: &Tensor, head: &[Tensor], dropout: Option<&DropoutRng>) -> Tensor {
        let pooled = linear(&last_hidden.select(1, 0).to_kind(head[0].kind()), &head[0], &head[1]).tanh();
        let dropout = Dropout { rng: dropout, stream: place::CLASSIFIER, p: self.classifier_dropout };
        linear(&dropout.hidden(&pooled, 1, 0), &head[2], &head[3])
    }
}
