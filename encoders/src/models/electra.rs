//! ELECTRA (Clark et al. 2020), the discriminator: `ElectraForSequenceClassification` of transformers, frozen.

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
use crate::nn::modules::Linear;
use crate::nn::post_norm::PostNormEncoder;
use crate::pass::{LayerObserver, Pass, TokenBatch, streams};

/// Registry line.
pub static ENTRY: EncoderEntry = EncoderEntry {
    model_type: "electra",
    architecture: "ElectraForSequenceClassification",
    prefix: PREFIX,
    ignored: &["discriminator_predictions.", "generator_predictions.", "generator_lm_head."],
    tiny: r#"{"model_type": "electra", "hidden_act": "gelu", "embedding_size": 8, "hidden_size": 16,
        "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 64,
        "max_position_embeddings": 40, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1}"#,
    build: |config, reader| Ok(Box::new(Electra::new(config, reader)?)),
};

const PREFIX: &str = "electra.";
/// Those of `ElectraConfig`.
const DEFAULTS: Defaults =
    Defaults { hidden: 256, layer_count: 12, heads: 4, intermediate: 1024, vocab: 30522, eps: 1e-12 };

/// The frozen encoder.
pub struct Electra {
    encoder: PostNormEncoder,
    classifier_dropout: f64,
    embeddings: BertEmbeddings,
    /// From the embeddings' width to the hidden states', where they differ.
    project: Option<Linear>,
}

impl Electra {
    /// Takes its tensors.
    ///
    /// # Errors
    /// An option that is not supported.
    pub fn new(config: &Config, reader: &Reader) -> Result<Self> {
        let fixed = [("position_embedding_type", json!("absolute"))];
        config.check(&[Dims::USED, &["classifier_dropout", "embedding_size", "type_vocab_size"]].concat(), &fixed)?;
        let dims = Dims::read(config, &DEFAULTS)?;
        let (positions, types) = (dims.positions, config.count_or("type_vocab_size", 2)?);
        let width = config.count_or("embedding_size", 128)?;
        let size = |option, value, tensor| Size { option, value, tensor, dimension: 0 };
        let sizes = [
            size("max_position_embeddings", dims.positions, "embeddings.position_embeddings.weight"),
            size("type_vocab_size", types, "embeddings.token_type_embeddings.weight"),
            size("embedding_size", width, "embeddings.LayerNorm.weight"),
        ];
        let hidden = size("hidden_size", dims.hidden, "encoder.layer.0.attention.self.query.weight");
        dims.check_with(config, reader, hidden, &sizes)?;
        let hidden = dims.hidden;
        Ok(Electra {
            classifier_dropout: config.rate_or_none("classifier_dropout")?.unwrap_or(dims.dropout),
            embeddings: BertEmbeddings::read(reader, &dims, width, types),
            project: (width != hidden).then(|| Linear::read(reader, "embeddings_project", [width, hidden], true)),
            encoder: PostNormEncoder::read(reader, dims, PREFIX, &BERT_MODULES, positions),
        })
    }
}

impl Encoder for Electra {
    fn info(&self) -> &EncoderInfo {
        &self.encoder.info
    }

    fn embed(&self, batch: &TokenBatch, pass: Pass) -> Tensor {
        let dropped = self.encoder.drop_embeddings(&self.embeddings.forward(batch, pass), pass);
        self.project.as_ref().map_or(dropped.shallow_clone(), |project| project.forward(&dropped, pass))
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
        let inner = drop(&linear(&first, &head[0], Some(&head[1])).gelu("none"), streams::CLASSIFIER);
        linear(&inner, &head[2], Some(&head[3]))
    }
}
