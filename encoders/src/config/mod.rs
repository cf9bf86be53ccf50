//! `config.json`, read strictly: an option that changes the result and is not supported is an error, never ignored.

mod irrelevant;
mod values;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::checkpoint::content;
use crate::config::irrelevant::IRRELEVANT;
use crate::error::{Error, Result};

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

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses every option that is neither in `used` (honoured), nor fixed to its one supported value, nor irrelevant.
    /// An option that nobody knows is taken where it is switched off: null, false, empty.
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

    /// The `model_type`, and where it is absent the one whose class `architectures` names.
    ///
    /// # Errors
    /// Neither says it.
    pub fn model_type(&self, known: &[(&'static str, &str)]) -> Result<String> {
        if let Some(value) = self.given("model_type") {
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
}

/// Values that every architecture fixes: it is an encoder alone, with all its heads.
fn encoder_alone() -> [(&'static str, Value); 4] {
    [
        ("is_decoder", json!(false)),
        ("is_encoder_decoder", json!(false)),
        ("add_cross_attention", json!(false)),
        ("pruned_heads", json!({})),
    ]
}

/// Whether a value switches an option off.
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
