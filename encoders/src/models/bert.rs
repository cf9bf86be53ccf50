//! BERT (Devlin et al. 2019), which MiniLM is too: `BertForSequenceClassification` of transformers, frozen.

use serde_json::json;
use tch::Tensor;

use crate::checkpoint::claims::Size;
use crate::checkpoint::reader::Reader;
use crate::config::Config;
use crate::encoder::{Encoder, EncoderEntry, EncoderInfo};
use crate::error::Result;
use crate::nn::dims::{Defaults, Dims};
use crate::nn::embeddings::BertEmbeddings;
use crate::nn::head::{Head, first_token, linear};
use crate::nn::layer::BERT_MODULES;
use crate::nn::post_norm::PostNormEncoder;
use crate::pass::{LayerObserver, Pass, TokenBatch, streams};

/// Registry line.
pub static ENTRY: EncoderEntry = EncoderEntry {
    model_type: "bert",
    architecture: "BertForSequenceClassification",
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
    encoder: PostNormEncoder,
    classifier_dropout: f64,
    embeddings: BertEmbeddings,
    pooler: Option<[Tensor; 2]>,
}

impl Bert {
    /// Takes its tensors; the pooler is kept for the head where the checkpoint has one.
    ///
    /// # Errors
    /// An option that is not supported.
    pub fn new(config: &Config, reader: &Reader) -> Result<Self> {
        let fixed = [("position_embedding_type", json!("absolute"))];
        config.check(&[Dims::USED, &["classifier_dropout", "type_vocab_size"]].concat(), &fixed)?;
        let dims = Dims::read(config, &DEFAULTS)?;
        let hidden = dims.hidden;
        let (positions, types) = (dims.positions, config.count_or("type_vocab_size", 2)?);
        let size = |option, value, tensor| Size { option, value, tensor, dimension: 0 };
        let sizes = [
            size("max_position_embeddings", dims.positions, "embeddings.position_embeddings.weight"),
            size("type_vocab_size", types, "embeddings.token_type_embeddings.weight"),
        ];
        dims.check(config, reader, &sizes)?;
        Ok(Bert {
            classifier_dropout: config.rate_or_none("classifier_dropout")?.unwrap_or(dims.dropout),
            pooler: reader.take_linear_of_head("pooler.dense", hidden),
            embeddings: BertEmbeddings::read(reader, &dims, hidden, types),
            encoder: PostNormEncoder::read(reader, dims, PREFIX, &BERT_MODULES, positions),
        })
    }
}

impl Encoder for Bert {
    fn info(&self) -> &EncoderInfo {
        &self.encoder.info
    }

    fn embed(&self, batch: &TokenBatch, pass: Pass) -> Tensor {
        self.encoder.drop_embeddings(&self.embeddings.forward(batch, pass), pass)
    }

    fn encode(&self, embedded: &Tensor, batch: &TokenBatch, pass: Pass, observe: LayerObserver) -> Tensor {
        self.encoder.self_attention(embedded, batch, pass, observe)
    }

    fn packs(&self, pass: Pass) -> bool {
        self.encoder.packs(pass)
    }

    fn new_head(&self, num_labels: i64, seed: i64) -> Head {
        Head::two_linears(
            ["bert.pooler.dense", "classifier"],
            &self.encoder.dims,
            num_labels,
            seed,
            self.pooler.as_ref(),
        )
    }

    fn logits(&self, last_hidden_state: &Tensor, _batch: &TokenBatch, head: &[Tensor], pass: Pass) -> Tensor {
        let pooled = linear(&first_token(last_hidden_state, head), &head[0], Some(&head[1])).tanh();
        let dropped = pass.dropout(streams::CLASSIFIER, self.classifier_dropout).hidden(&pooled, 1, 0);
        linear(&dropped, &head[2], Some(&head[3]))
    }
}
