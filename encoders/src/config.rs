//! `config.json`, read strictly: an option that changes the result and is not supported is an error, never ignored.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Options that do not change what the encoder computes here.
const HARMLESS: &[&str] = &[
    "_name_or_path",
    "_num_labels",
    "architectures",
    "bos_token_id",
    "chunk_size_feed_forward",
    "dtype",
    "eos_token_id",
    "finetuning_task",
    "gradient_checkpointing",
    "id2label",
    "initializer_range",
    "label2id",
    "model_type",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "problem_type",
    "return_dict",
    "tie_word_embeddings",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "use_cache",
];

const HELP: &str = "a backbone is a directory with config.json, model.safetensors and a tokenizer";

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
        let unreadable = |reason: String| Error::Unreadable { path: path.to_path_buf(), reason, help: HELP };
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        Config::parse(&text, path)
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

    /// Refuses every option that is neither in `used`, nor fixed to its one supported value, nor harmless.
    ///
    /// # Errors
    /// Names the first such option.
    pub fn check(&self, used: &[&str], fixed: &[(&str, Value)]) -> Result<()> {
        for (option, value) in &self.options {
            let supported = fixed.iter().find(|(name, _)| name == option).map(|(_, value)| value);
            match supported {
                Some(expected) if expected != value => return Err(self.wrong(option, expected.to_string(), value)),
                Some(_) => {}
                None if used.contains(&option.as_str()) || HARMLESS.contains(&option.as_str()) => {}
                None => return Err(self.wrong(option, "an option of this architecture".into(), value)),
            }
        }
        Ok(())
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

    /// A text.
    ///
    /// # Errors
    /// It is missing or something else.
    pub fn text(&self, option: &str) -> Result<String> {
        let value = self.value(option)?;
        value.as_str().map(str::to_string).ok_or_else(|| self.wrong(option, "a text".into(), value))
    }

    /// An error about one option.
    pub fn wrong(&self, option: &str, expected: String, got: &Value) -> Error {
        Error::Config { path: self.path.clone(), option: option.into(), expected, got: got.to_string() }
    }

    fn value(&self, option: &str) -> Result<&Value> {
        self.options.get(option).ok_or_else(|| self.wrong(option, "a value".into(), &Value::String("nothing".into())))
    }
}
