//! Sizes and rates of BERT and its relatives.

use serde_json::json;

use crate::checkpoint::claims::{Claims, Size};
use crate::checkpoint::reader::Reader;
use crate::config::Config;
use crate::error::Result;
use crate::target::ModuleKind;

/// Defaults of transformers for absent options.
pub(crate) struct Defaults {
    pub hidden: i64,
    pub layer_count: i64,
    pub heads: i64,
    pub intermediate: i64,
    pub vocab: i64,
    pub eps: f64,
}

/// Sizes and rates from `config.json`.
pub(crate) struct Dims {
    pub hidden: i64,
    pub layer_count: i64,
    pub heads: i64,
    pub intermediate: i64,
    pub vocab: i64,
    pub positions: i64,
    pub eps: f64,
    pub dropout: f64,
    pub attention_dropout: f64,
    pub initializer_range: f64,
}

/// Name of the token embedding, without prefix.
const WORD: &str = "embeddings.word_embeddings.weight";

impl Dims {
    /// Options that [`Dims::read`] reads.
    pub const USED: &[&str] = &[
        "attention_probs_dropout_prob",
        "hidden_act",
        "hidden_dropout_prob",
        "hidden_size",
        "intermediate_size",
        "layer_norm_eps",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
    ];

    /// Reads the options.
    ///
    /// # Errors
    /// One that is something else than a size or rate; an activation that is not supported.
    pub fn read(config: &Config, defaults: &Defaults) -> Result<Self> {
        config.check_activation("hidden_act")?;
        let dims = Dims {
            hidden: config.count_or("hidden_size", defaults.hidden)?,
            layer_count: config.count_or("num_hidden_layers", defaults.layer_count)?,
            heads: config.count_or("num_attention_heads", defaults.heads)?,
            intermediate: config.count_or("intermediate_size", defaults.intermediate)?,
            vocab: config.count_or("vocab_size", defaults.vocab)?,
            positions: config.count_or("max_position_embeddings", 512)?,
            eps: config.number_or("layer_norm_eps", defaults.eps)?,
            dropout: config.rate_or("hidden_dropout_prob", 0.1)?,
            attention_dropout: config.rate_or("attention_probs_dropout_prob", 0.1)?,
            initializer_range: config.number_or_none("initializer_range")?.unwrap_or(0.02),
        };
        if dims.hidden % dims.heads != 0 {
            let expected = format!("a divisor of hidden_size {}", dims.hidden);
            return Err(config.wrong("num_attention_heads", expected, &json!(dims.heads)));
        }
        Ok(dims)
    }

    /// Holds the sizes, and `others` beside them, against the checkpoint ([`Claims::check`]).
    ///
    /// # Errors
    /// The first option that is not what the tensors say.
    pub fn check(&self, config: &Config, reader: &Reader, others: &[Size]) -> Result<()> {
        let hidden = Size { option: "hidden_size", value: self.hidden, tensor: WORD, dimension: 1 };
        self.check_with(config, reader, hidden, others)
    }

    /// [`Dims::check`] for embeddings of another width than the hidden states', which `hidden` finds elsewhere.
    ///
    /// # Errors
    /// As [`Dims::check`].
    pub fn check_with(&self, config: &Config, reader: &Reader, hidden: Size, others: &[Size]) -> Result<()> {
        let size = |n: i64| n as f64;
        let a_layer = size(self.hidden) * (4.0 * size(self.hidden) + 2.0 * size(self.intermediate));
        let others_values = others.iter().map(|other| size(other.value) * size(self.hidden)).sum::<f64>();
        let mut sizes = vec![
            Size { option: "vocab_size", value: self.vocab, tensor: WORD, dimension: 0 },
            hidden,
            Size {
                option: "intermediate_size",
                value: self.intermediate,
                tensor: "encoder.layer.0.intermediate.dense.weight",
                dimension: 0,
            },
        ];
        sizes.extend_from_slice(others);
        let claims = Claims {
            values: size(self.vocab) * size(self.hidden) + size(self.layer_count) * a_layer + others_values,
            layers: self.layer_count,
            layer_prefix: "encoder.layer.",
            sizes: &sizes,
        };
        claims.check(config, reader)
    }

    /// Input and output width of a linear.
    pub fn widths(&self, kind: ModuleKind) -> [i64; 2] {
        match kind {
            ModuleKind::Intermediate => [self.hidden, self.intermediate],
            ModuleKind::Output => [self.intermediate, self.hidden],
            _ => [self.hidden, self.hidden],
        }
    }
}
