//! ModernBERT (Warner et al. 2024): `ModernBertForSequenceClassification` of transformers, frozen.

mod head;
mod layer;
mod options;
mod positions;

use tch::Tensor;

use crate::checkpoint::reader::Reader;
use crate::config::Config;
use crate::encoder::{Encoder, EncoderEntry, EncoderInfo};
use crate::error::Result;
use crate::models::modernbert::head::PredictionHead;
use crate::models::modernbert::layer::{Layer, LayerInput};
use crate::models::modernbert::options::Options;
use crate::models::modernbert::positions::Positions;
use crate::nn::head::Head;
use crate::nn::modules::{Embedding, LayerNorm};
use crate::pass::{LayerObserver, Pass, TokenBatch, streams};

/// Registry line.
pub static ENTRY: EncoderEntry = EncoderEntry {
    model_type: "modernbert",
    architecture: "ModernBertForSequenceClassification",
    prefix: PREFIX,
    ignored: &["decoder."],
    tiny: r#"{"model_type": "modernbert", "hidden_activation": "gelu", "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 64, "max_position_embeddings": 40,
        "local_attention": 4, "norm_eps": 1e-5, "norm_bias": true, "attention_bias": true, "mlp_bias": true,
        "embedding_dropout": 0.1, "attention_dropout": 0.1, "mlp_dropout": 0.1, "classifier_dropout": 0.1}"#,
    build: |config, reader| Ok(Box::new(ModernBert::new(config, reader)?)),
};

const PREFIX: &str = "model.";

/// The frozen encoder.
pub struct ModernBert {
    options: Options,
    info: EncoderInfo,
    tokens: Embedding,
    norm: LayerNorm,
    layers: Vec<Layer>,
    final_norm: LayerNorm,
    positions: Positions,
    head: PredictionHead,
}

impl ModernBert {
    /// Takes its tensors; the prediction head is kept for the classifier where the checkpoint has one.
    ///
    /// # Errors
    /// An option that is not supported.
    pub fn new(config: &Config, reader: &Reader) -> Result<Self> {
        let options = Options::read(config, reader)?;
        let norm = |name: &str| LayerNorm::read(reader, name, options.hidden, options.eps, options.norm_bias);
        let tokens = Embedding::read(reader, "embeddings.tok_embeddings", [options.vocab, options.hidden]);
        let embeddings_norm = norm("embeddings.norm");
        let spans = options.spans(config)?.into_iter().enumerate();
        let layers: Vec<Layer> =
            spans.map(|(index, span)| Layer::read(reader, &options, PREFIX, index, span)).collect();
        let final_norm = norm("final_norm");
        let info = EncoderInfo {
            target_modules: layers.iter().flat_map(Layer::target_modules).cloned().collect(),
            weights: reader.weights(PREFIX),
            prefix: PREFIX,
            hidden_size: options.hidden,
            vocab_size: options.vocab,
            max_positions: options.positions as usize,
        };
        Ok(ModernBert {
            positions: Positions::new(&options, reader.options()),
            head: PredictionHead::read(reader, &options),
            options,
            info,
            tokens,
            norm: embeddings_norm,
            layers,
            final_norm,
        })
    }
}

impl Encoder for ModernBert {
    fn info(&self) -> &EncoderInfo {
        &self.info
    }

    fn embed(&self, batch: &TokenBatch, pass: Pass) -> Tensor {
        let embedded = self.norm.forward(&self.tokens.lookup(&batch.input_ids, pass), pass);
        pass.dropout(streams::EMBEDDINGS, self.options.embedding_dropout).hidden(&embedded, embedded.size()[1], 0)
    }

    fn encode(&self, embedded: &Tensor, batch: &TokenBatch, pass: Pass, mut observe: LayerObserver) -> Tensor {
        let size = embedded.size();
        let tables = self.positions.tables(size[1]);
        let masks = tables.masks(&batch.attention_mask);
        let input = LayerInput { tables: &tables, masks: &masks, length: size[1], pass };
        let x = self.layers.iter().fold(embedded.reshape([-1, self.options.hidden]), |x, layer| {
            let x = layer.forward(&x, input);
            if let Some(observe) = &mut observe {
                observe(&x.view(size.as_slice()));
            }
            x
        });
        self.final_norm.forward(&x, pass).view(size.as_slice())
    }

    fn new_head(&self, num_labels: i64, seed: i64) -> Head {
        self.head.start(&self.options, self.layers.len(), num_labels, seed)
    }

    fn logits(&self, last_hidden_state: &Tensor, batch: &TokenBatch, head: &[Tensor], pass: Pass) -> Tensor {
        head::logits(&self.options, last_hidden_state, batch, head, pass)
    }
}
