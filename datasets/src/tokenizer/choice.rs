//! Which class reads a checkpoint's tokenizer, by its files.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::tokenizer::class::{Class, Family};
use crate::tokenizer::files::{CONFIG, MODEL_CONFIG, read};

const HELP: &str = "Correct the file, or take the checkpoint's own one again";

/// The class that the files name, else that of the model, else the vocabulary's.
pub(crate) fn class(dir: &Path, config: Option<&Map<String, Value>>, fallback: Family) -> Result<Class> {
    let class = named_class(dir, config).map_err(|(file, detail)| refused(dir, file, detail))?;
    Ok(class.unwrap_or_else(|| Class::of_family(fallback)))
}

/// The class that the files of `dir` name, if they do and it is supported.
pub fn class_of(dir: &Path) -> Option<Class> {
    let config = object(dir, CONFIG).ok().flatten();
    named_class(dir, config.as_ref()).ok().flatten()
}

fn named_class(
    dir: &Path,
    config: Option<&Map<String, Value>>,
) -> std::result::Result<Option<Class>, (&'static str, String)> {
    let named = |config: Option<&Value>| config.and_then(Value::as_str).map(str::to_string);
    if let Some(name) = named(config.and_then(|config| config.get("tokenizer_class"))) {
        return Class::named(&name).map(Some).map_err(|detail| (CONFIG, detail));
    }
    // Whoever reads the model says what is wrong with its configuration.
    let model = std::fs::read(dir.join(MODEL_CONFIG)).ok();
    let model = model.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()).unwrap_or_default();
    if let Some(name) = named(model.get("tokenizer_class")) {
        return Class::named(&name).map(Some).map_err(|detail| (MODEL_CONFIG, detail));
    }
    Ok(model.get("model_type").and_then(Value::as_str).and_then(Class::of_model))
}

pub(crate) fn object(dir: &Path, file: &str) -> Result<Option<Map<String, Value>>> {
    let path = dir.join(file);
    if !path.is_file() {
        return Ok(None);
    }
    let parsed = serde_json::from_slice(&read(&path)?);
    parsed.map(Some).map_err(|e| refused(dir, file, e.to_string()))
}

pub(crate) fn refused(dir: &Path, file: &str, detail: String) -> Error {
    let format = if file == CONFIG { "a tokenizer configuration" } else { "a tokenizer's file" };
    Error::Corrupt { path: dir.join(file), format, detail, help: HELP.into() }
}
