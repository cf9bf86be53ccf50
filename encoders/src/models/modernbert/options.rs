//! Options of ModernBERT, as transformers 4.57 and 5 write them.

use serde_json::{Map, Value, json};

use crate::checkpoint::claims::{Claims, Size};
use crate::checkpoint::reader::Reader;
use crate::config::Config;
use crate::error::Result;

/// Options that are honoured.
const USED: &[&str] = &[
    "attention_bias",
    "attention_dropout",
    "classifier_activation",
    "classifier_bias",
    "classifier_dropout",
    "classifier_pooling",
    "embedding_dropout",
    "global_attn_every_n_layers",
    "global_rope_theta",
    "hidden_activation",
    "hidden_size",
    "initializer_cutoff_factor",
    "intermediate_size",
    "layer_types",
    "local_attention",
    "local_rope_theta",
    "max_position_embeddings",
    "mlp_bias",
    "mlp_dropout",
    "norm_bias",
    "norm_eps",
    "num_attention_heads",
    "num_hidden_layers",
    "rope_parameters",
    "vocab_size",
];
/// Options that the sequence classifier of transformers does not read: of the masked language model, of kernels and
/// compilation, and two of BERT's that the published checkpoints carry.
const UNREAD: &[&str] = &[
    "decoder_bias",
    "deterministic_flash_attn",
    "layer_norm_eps",
    "position_embedding_type",
    "reference_compile",
    "repad_logits_with_grad",
    "sparse_pred_ignore_index",
    "sparse_prediction",
];

/// Tokens that a layer's attention reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    /// Every token.
    Global,
    /// Tokens within the window.
    Local,
}

impl Span {
    /// Names in `layer_types` and `rope_parameters`.
    const NAMES: [(&str, Span); 2] = [("full_attention", Span::Global), ("sliding_attention", Span::Local)];
}

/// Sizes, rates and forms from `config.json`.
pub(crate) struct Options {
    pub hidden: i64,
    pub heads: i64,
    pub intermediate: i64,
    pub vocab: i64,
    pub positions: i64,
    pub eps: f64,
    pub norm_bias: bool,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    pub classifier_bias: bool,
    pub embedding_dropout: f64,
    pub attention_dropout: f64,
    pub mlp_dropout: f64,
    pub classifier_dropout: f64,
    /// Whether the head takes the mean of the tokens, not the first.
    pub is_mean_pooled: bool,
    /// Longest distance of two tokens that a local layer connects.
    pub reach: i64,
    /// Base of the rotary angles, of global and local layers.
    pub thetas: [f64; 2],
    pub initializer_range: f64,
    /// Standard deviations at which start values are cut off.
    pub cutoff: f64,
    layer_count: i64,
}

impl Options {
    /// Reads the options and holds the sizes against the checkpoint.
    ///
    /// # Errors
    /// An option that is not supported, or not what the tensors say.
    pub fn read(config: &Config, reader: &Reader) -> Result<Self> {
        config.check(&[USED, UNREAD].concat(), &[])?;
        config.check_activation("hidden_activation")?;
        config.check_activation("classifier_activation")?;
        // Where it is null, transformers cuts off at 3.
        let is_wide = config.is_null("initializer_cutoff_factor");
        let options = Options {
            hidden: config.count_or("hidden_size", 768)?,
            heads: config.count_or("num_attention_heads", 12)?,
            intermediate: config.count_or("intermediate_size", 1152)?,
            vocab: config.count_or("vocab_size", 50368)?,
            positions: config.count_or("max_position_embeddings", 8192)?,
            layer_count: config.count_or("num_hidden_layers", 22)?,
            eps: config.number_or("norm_eps", 1e-5)?,
            norm_bias: config.flag_or("norm_bias", false)?,
            attention_bias: config.flag_or("attention_bias", false)?,
            mlp_bias: config.flag_or("mlp_bias", false)?,
            classifier_bias: config.flag_or("classifier_bias", false)?,
            embedding_dropout: config.rate_or("embedding_dropout", 0.0)?,
            attention_dropout: config.rate_or("attention_dropout", 0.0)?,
            mlp_dropout: config.rate_or("mlp_dropout", 0.0)?,
            classifier_dropout: config.rate_or("classifier_dropout", 0.0)?,
            is_mean_pooled: config.choice("classifier_pooling", &["cls", "mean"])? == "mean",
            reach: config.count_or("local_attention", 128)? / 2,
            thetas: thetas(config)?,
            initializer_range: config.number_or_none("initializer_range")?.unwrap_or(0.02),
            cutoff: if is_wide { 3.0 } else { config.number_or("initializer_cutoff_factor", 2.0)? },
        };
        if options.hidden % options.heads != 0 || options.head_width() % 2 != 0 {
            let expected = format!("a divisor of hidden_size {} that gives heads of an even width", options.hidden);
            return Err(config.wrong("num_attention_heads", expected, &json!(options.heads)));
        }
        options.check(config, reader)?;
        Ok(options)
    }

    /// Width of a head.
    pub fn head_width(&self) -> i64 {
        self.hidden / self.heads
    }

    fn check(&self, config: &Config, reader: &Reader) -> Result<()> {
        let tokens = "embeddings.tok_embeddings.weight";
        let size = |option, value, tensor, dimension| Size { option, value, tensor, dimension };
        let (hidden, intermediate) = (self.hidden as f64, self.intermediate as f64);
        let a_layer = hidden * (4.0 * hidden + 3.0 * intermediate);
        let claims = Claims {
            values: self.vocab as f64 * hidden + self.layer_count as f64 * a_layer,
            layers: self.layer_count,
            layer_prefix: "layers.",
            sizes: &[
                size("vocab_size", self.vocab, tokens, 0),
                size("hidden_size", self.hidden, tokens, 1),
                size("intermediate_size", self.intermediate, "layers.0.mlp.Wo.weight", 1),
            ],
        };
        claims.check(config, reader)
    }

    /// The span of each layer: `layer_types`, or every n-th layer global, the first among them.
    ///
    /// # Errors
    /// Both are given and differ; a list of another length, or with another name.
    pub fn spans(&self, config: &Config) -> Result<Vec<Span>> {
        let every = config.count_or("global_attn_every_n_layers", 3)?;
        let periodic: Vec<Span> =
            (0..self.layer_count).map(|i| if i % every == 0 { Span::Global } else { Span::Local }).collect();
        let Some(value) = config.given("layer_types") else { return Ok(periodic) };
        let span = |name: &Value| Span::NAMES.iter().find(|(known, _)| name == known).map(|(_, span)| *span);
        let listed: Option<Vec<Span>> = value.as_array().and_then(|names| names.iter().map(span).collect());
        let expected = || format!("{} of full_attention and sliding_attention", self.layer_count);
        let listed = listed.filter(|spans| spans.len() == periodic.len());
        let listed = listed.ok_or_else(|| config.wrong("layer_types", expected(), value))?;
        if config.given("global_attn_every_n_layers").is_some() && listed != periodic {
            return Err(config.wrong("layer_types", "the same as global_attn_every_n_layers gives".into(), value));
        }
        Ok(listed)
    }
}

/// Bases of the rotary angles: `global_rope_theta` and `local_rope_theta`, or those of `rope_parameters`.
fn thetas(config: &Config) -> Result<[f64; 2]> {
    let global = config.number_or("global_rope_theta", 160_000.0)?;
    // Null is transformers 4.57's "as the global ones".
    let is_global = config.is_null("local_rope_theta");
    let local = if is_global { global } else { config.number_or("local_rope_theta", 10_000.0)? };
    let mut thetas = [global, local];
    if let Some(value) = config.given("rope_parameters") {
        let wrong = || {
            let expected = "full_attention and sliding_attention, each with rope_theta and the rope_type default";
            config.wrong("rope_parameters", expected.into(), value)
        };
        for (kind, parameters) in value.as_object().ok_or_else(wrong)? {
            let (_, span) = Span::NAMES.into_iter().find(|(name, _)| name == kind).ok_or_else(wrong)?;
            let option = ["global_rope_theta", "local_rope_theta"][span as usize];
            let Some(theta) = rope_theta(parameters.as_object().ok_or_else(wrong)?).ok_or_else(wrong)? else {
                continue;
            };
            if config.given(option).is_some() && theta != thetas[span as usize] {
                return Err(config.wrong(
                    option,
                    format!("the {theta} of rope_parameters"),
                    &json!(thetas[span as usize]),
                ));
            }
            thetas[span as usize] = theta;
        }
    }
    match thetas.iter().position(|theta| *theta <= 0.0) {
        Some(at) => {
            let option = ["global_rope_theta", "local_rope_theta"][at];
            Err(config.wrong(option, "a number above 0".into(), &json!(thetas[at])))
        }
        None => Ok(thetas),
    }
}

/// `rope_theta` of plain rotary parameters, where they hold it; `None` for others.
fn rope_theta(parameters: &Map<String, Value>) -> Option<Option<f64>> {
    let is_plain = parameters.iter().all(|(name, value)| match name.as_str() {
        "rope_type" => value == "default",
        "rope_theta" => value.as_f64().is_some_and(|theta| theta > 0.0),
        _ => false,
    });
    is_plain.then(|| parameters.get("rope_theta").and_then(Value::as_f64))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::{Device, Kind};

    use super::*;

    fn read(extra: &str) -> Result<(Options, Vec<Span>)> {
        let comma = if extra.is_empty() { "" } else { ", " };
        let text = format!(r#"{{"model_type": "modernbert", "num_hidden_layers": 4{comma}{extra}}}"#);
        let config = Config::parse(&text, Path::new("config.json")).unwrap();
        let options = Options::read(&config, &Reader::random(1, Device::Cpu, Kind::Float))?;
        let spans = options.spans(&config)?;
        Ok((options, spans))
    }

    const ROPE: &str = r#""rope_parameters": {"full_attention": {"rope_theta": 5, "rope_type": "default"}}"#;

    #[test]
    fn both_forms_of_the_layers_and_angles_are_read() {
        let (options, spans) = read("").unwrap();
        assert_eq!(spans, [Span::Global, Span::Local, Span::Local, Span::Global]);
        assert_eq!((options.thetas, options.reach, options.cutoff), ([160_000.0, 10_000.0], 64, 2.0));
        assert_eq!(read(r#""local_rope_theta": null"#).unwrap().0.thetas, [160_000.0; 2]);
        assert_eq!(read(ROPE).unwrap().0.thetas, [5.0, 10_000.0]);
        let listed = r#""layer_types": ["sliding_attention", "full_attention", "full_attention", "full_attention"]"#;
        assert_eq!(read(listed).unwrap().1[..2], [Span::Local, Span::Global]);
    }

    /// Those of the masked language model and of BERT that published checkpoints carry.
    #[test]
    fn options_that_the_classifier_does_not_read_are_taken() {
        read(
            r#""decoder_bias": true, "deterministic_flash_attn": false, "gradient_checkpointing": false,
            "initializer_cutoff_factor": null, "layer_norm_eps": 1e-5, "position_embedding_type": "absolute",
            "reference_compile": true, "repad_logits_with_grad": false, "sparse_pred_ignore_index": -100,
            "sparse_prediction": true, "tie_word_embeddings": true, "transformers_version": "4.47.0.dev0""#,
        )
        .unwrap();
    }

    #[test]
    fn options_that_are_not_supported_are_refused_by_name() {
        for (extra, option) in [
            (r#""hidden_activation": "silu""#, "hidden_activation"),
            (r#""classifier_activation": "relu""#, "classifier_activation"),
            (r#""classifier_pooling": "max""#, "classifier_pooling"),
            (r#""norm_bias": "no""#, "norm_bias"),
            (r#""num_attention_heads": 7"#, "num_attention_heads"),
            (r#""num_attention_heads": 256"#, "num_attention_heads"),
            (r#""local_attention": -1"#, "local_attention"),
            (r#""global_rope_theta": 0"#, "global_rope_theta"),
            (r#""rope_scaling": {"rope_type": "yarn"}"#, "rope_scaling"),
            (r#""rope_parameters": {"full_attention": {"rope_type": "linear"}}"#, "rope_parameters"),
            (r#""rope_parameters": {"rope_theta": 5}"#, "rope_parameters"),
            (r#""layer_types": ["full_attention"]"#, "layer_types"),
            (r#""layer_types": ["full_attention", "none", "full_attention", "full_attention"]"#, "layer_types"),
            (&format!(r#""global_rope_theta": 6, {ROPE}"#), "global_rope_theta"),
            (
                r#""global_attn_every_n_layers": 2,
                "layer_types": ["full_attention", "full_attention", "full_attention", "full_attention"]"#,
                "layer_types",
            ),
            (r#""is_decoder": true"#, "is_decoder"),
        ] {
            let message = read(extra).err().unwrap_or_else(|| panic!("{extra} is taken")).to_string();
            assert!(message.contains(option), "{extra}: {message}");
        }
    }
}
