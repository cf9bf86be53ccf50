//! `config.json`, read strictly: an option that changes the result and is not supported is an error, never ignored.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::checkpoint::content;
use crate::error::{Error, Result};

/// Options that transformers and common training code write and that do not change what a frozen encoder computes: names and
/// versions, labels and heads, other forms of the same operations, text generation, other poolers' sizes.
const IRRELEVANT: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "_commit_hash",
    "_name_or_path",
    "_num_labels",
    "_output_attentions",
    "architectures",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cls_token_id",
    "cross_attention_hidden_size",
    "custom_pipelines",
    "decoder_start_token_id",
    "directionality",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "eos_token_ids",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "label2id",
    "language",
    "length_penalty",
    "mask_token_id",
    "max_length",
    "min_length",
    "model_type",
    "name",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token_id",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "sentence_transformers",
    "summary_activation",
    "summary_first_dropout",
    "summary_last_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "use_bfloat16",
    "use_cache",
];

/// Activations that are the exact GELU.
const GELU: [&str; 2] = ["gelu", "gelu_python"];

const HELP: &str =
    "a backbone is a directory with config.json, model.safetensors or pytorch_model.bin, and a tokenizer";

/// A parsed `config.json`.
pub struct Config {
    path: PathBuf,
    options: Map<String, Value>,
}

impl Config {
    /// Reads the file.
    ///
    /// # Errors
    /// It is missing or not a JSON object.
    pub fn read(path: &Path) -> Result<Self> {
        let unreadable =
            |reason: String, help: &'static str| Error::Unreadable { path: path.to_path_buf(), reason, help };
        let bytes = std::fs::read(path).map_err(|e| unreadable(e.to_string(), HELP))?;
        match std::str::from_utf8(&bytes) {
            Ok(text) if text.trim_start().starts_with('{') => Config::parse(text, path),
            _ => Err(match content::recognise(&bytes) {
                Some(found) => unreadable(format!("{}; expected a JSON object", found.what), found.help),
                None => unreadable("it is no text, expected a JSON object".into(), HELP),
            }),
        }
    }

    /// Reads the file's text; `path` is used in errors.
    ///
    /// # Errors
    /// It is not a JSON object.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let options = serde_json::from_str(text).map_err(|e| Error::Unreadable {
            path: path.to_path_buf(),
            reason: format!("it is not a JSON object: {e}"),
            help: HELP,
        })?;
        Ok(Config { path: path.to_path_buf(), options })
    }

    /// Where it was read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses every option that is neither in `used` (honoured), nor fixed to its one supported value, nor irrelevant. An option
    /// that nobody knows is taken where it is switched off: null, false, empty.
    ///
    /// # Errors
    /// Names the first such option.
    pub fn check(&self, used: &[&str], fixed: &[(&str, Value)]) -> Result<()> {
        let of_all = encoder_alone();
        for (option, value) in &self.options {
            let supported = fixed.iter().chain(&of_all).find(|(name, _)| name == option).map(|(_, value)| value);
            match supported {
                Some(expected) if expected != value && !(is_off(expected) && is_off(value)) => {
                    return Err(self.wrong(option, expected.to_string(), value));
                }
                Some(_) => {}
                None if used.contains(&option.as_str()) || IRRELEVANT.contains(&option.as_str()) || is_off(value) => {}
                None => return Err(self.wrong(option, "an option of this architecture".into(), value)),
            }
        }
        Ok(())
    }

    /// Refuses another activation than the exact GELU, which is also the default.
    ///
    /// # Errors
    /// Another activation.
    pub fn check_activation(&self, option: &str) -> Result<()> {
        match self.options.get(option) {
            Some(value) if !value.as_str().is_some_and(|name| GELU.contains(&name)) => {
                Err(self.wrong(option, GELU.join(" or "), value))
            }
            _ => Ok(()),
        }
    }

    /// [`Config::count`], or transformers' default where it is absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn count_or(&self, option: &str, default: i64) -> Result<i64> {
        if self.options.contains_key(option) { self.count(option) } else { Ok(default) }
    }

    /// [`Config::number`], or transformers' default where it is absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn number_or(&self, option: &str, default: f64) -> Result<f64> {
        if self.options.contains_key(option) { self.number(option) } else { Ok(default) }
    }

    /// A probability below 1, or transformers' default where it is absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn rate_or(&self, option: &str, default: f64) -> Result<f64> {
        let rate = self.number_or(option, default)?;
        if rate < 1.0 { Ok(rate) } else { Err(self.wrong(option, "a number from 0 to below 1".into(), &json!(rate))) }
    }

    /// [`Config::rate_or`], or `None` where it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub fn rate_or_none(&self, option: &str) -> Result<Option<f64>> {
        match self.options.get(option) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.rate_or(option, 0.0).map(Some),
        }
    }

    /// A whole number above 0.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn count(&self, option: &str) -> Result<i64> {
        let value = self.value(option)?;
        value.as_i64().filter(|n| *n > 0).ok_or_else(|| self.wrong(option, "a whole number above 0".into(), value))
    }

    /// A number from 0 on.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn number(&self, option: &str) -> Result<f64> {
        let value = self.value(option)?;
        value.as_f64().filter(|n| *n >= 0.0).ok_or_else(|| self.wrong(option, "a number from 0 on".into(), value))
    }

    /// [`Config::number`], or `None` where it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub fn number_or_none(&self, option: &str) -> Result<Option<f64>> {
        match self.options.get(option) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.number(option).map(Some),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn integer(&self, option: &str) -> Result<i64> {
        let value = self.value(option)?;
        value.as_i64().ok_or_else(|| self.wrong(option, "a whole number".into(), value))
    }

    /// [`Config::integer`], or transformers' default where it is absent.
    ///
    /// # Errors
    /// It is something else.
    pub fn integer_or(&self, option: &str, default: i64) -> Result<i64> {
        if self.options.contains_key(option) { self.integer(option) } else { Ok(default) }
    }

    /// [`Config::integer`], or `None` where it is absent or null.
    ///
    /// # Errors
    /// It is something else.
    pub fn integer_or_none(&self, option: &str) -> Result<Option<i64>> {
        match self.options.get(option) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.integer(option).map(Some),
        }
    }

    /// An option that must be there.
    ///
    /// # Errors
    /// It is missing.
    pub fn require(&self, option: &str) -> Result<&Value> {
        self.value(option)
    }

    /// The `model_type`, and where it is absent the one whose class `architectures` names.
    ///
    /// # Errors
    /// Neither says it.
    pub fn model_type(&self, known: &[(&'static str, &str)]) -> Result<String> {
        if let Some(value) = self.options.get("model_type").filter(|value| !value.is_null()) {
            return value.as_str().map(str::to_string).ok_or_else(|| self.wrong("model_type", "a text".into(), value));
        }
        let classes = self.options.get("architectures").and_then(Value::as_array).into_iter().flatten();
        let is_of = |name: &str, class: &str| {
            name.strip_prefix(class).is_some_and(|rest| rest.starts_with("Model") || rest.starts_with("For"))
        };
        let of_class =
            |name: &str| known.iter().find(|(_, class)| is_of(name, class)).map(|(model_type, _)| *model_type);
        classes.filter_map(Value::as_str).find_map(of_class).map(str::to_string).ok_or_else(|| {
            let types = known.iter().map(|(model_type, _)| format!("{model_type:?}")).collect::<Vec<_>>().join(", ");
            Error::Unreadable {
                path: self.path.clone(),
                reason: format!("it has no model_type, and architectures names none of those built here ({types})"),
                help: "add \"model_type\": \"bert\", or whichever of these the model is",
            }
        })
    }

    /// An error about one option.
    pub fn wrong(&self, option: &str, expected: String, got: &Value) -> Error {
        Error::Config { path: self.path.clone(), option: option.into(), expected, got: got.to_string() }
    }

    fn value(&self, option: &str) -> Result<&Value> {
        self.options.get(option).ok_or_else(|| Error::Unreadable {
            path: self.path.clone(),
            reason: format!("it has no {option}, which has no default"),
            help: "add it as the model was trained",
        })
    }
}

/// Whether a value switches an option off.
/// Values that every architecture fixes: it is an encoder alone, with all its heads.
fn encoder_alone() -> [(&'static str, Value); 4] {
    [
        ("is_decoder", json!(false)),
        ("is_encoder_decoder", json!(false)),
        ("add_cross_attention", json!(false)),
        ("pruned_heads", json!({})),
    ]
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
    }
}
