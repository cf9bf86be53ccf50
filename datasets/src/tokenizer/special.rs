//! Special and added tokens as the option files hold them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

/// transformers' SPECIAL_TOKENS_ATTRIBUTES, in their order.
pub(crate) const ATTRIBUTES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
pub(crate) const ADDITIONAL: &str = "additional_special_tokens";
pub(crate) const DECODER: &str = "added_tokens_decoder";

/// `special_tokens_map.json` over the configuration: its tokens are special, and lists are put together.
pub(crate) fn merge(all: &mut Map<String, Value>, map: Map<String, Value>) -> std::result::Result<(), String> {
    let special = |mut value: Value| {
        if let Some(token) = value.as_object_mut() {
            token.insert("special".into(), true.into());
        }
        value
    };
    for (name, value) in map {
        if name == ADDITIONAL && value.is_array() {
            let mut tokens = list(all, ADDITIONAL)?;
            for token in value.as_array().into_iter().flatten().cloned().map(special) {
                if !tokens.contains(&token) {
                    tokens.push(token);
                }
            }
            all.insert(name, Value::Array(tokens));
        } else {
            all.insert(name, special(value));
        }
    }
    Ok(())
}

/// Texts of the special tokens that the files give, as `added_tokens.json` is held against them.
pub(crate) fn listed(all: &Map<String, Value>, from_map: &[String]) -> Vec<String> {
    let mut texts = Vec::new();
    for (name, value) in all.iter().filter(|(name, _)| ATTRIBUTES.contains(&name.as_str()) || *name == ADDITIONAL) {
        let values = value.as_array().map_or_else(|| vec![value], |values| values.iter().collect());
        for value in values {
            // transformers compares before it has read the objects of tokenizer_config.json.
            if value.is_string() || from_map.contains(name) {
                texts.extend(content(value).map(str::to_string));
            }
        }
    }
    texts
}

pub(crate) fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// `added_tokens_decoder`: flags by id.
pub(crate) fn decoded(decoder: &Map<String, Value>) -> std::result::Result<BTreeMap<u32, AddedToken>, String> {
    let entry = |(id, value): (&String, &Value)| {
        let number = id.trim().parse().map_err(|_| format!("{DECODER}: {id:?} is no id"))?;
        Ok((number, flagged(value, false)?))
    };
    decoder.iter().map(entry).collect()
}

/// `added_tokens.json`: ids by text.
pub(crate) fn numbered(
    added: &Map<String, Value>,
    special: &[String],
) -> std::result::Result<BTreeMap<u32, AddedToken>, String> {
    let entry = |(content, id): (&String, &Value)| {
        let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let number = number.ok_or_else(|| format!("{content:?} has the id {id}"))?;
        Ok((number, AddedToken::from(content.as_str(), special.contains(content))))
    };
    added.iter().map(entry).collect()
}

/// A token with its flags; `normalized` is the opposite of `special` where it is left out.
pub(crate) fn flagged(value: &Value, special: bool) -> std::result::Result<AddedToken, String> {
    let object = value.as_object().ok_or_else(|| format!("{value} is no token with flags"))?;
    let content = object.get("content").and_then(Value::as_str);
    let content = content.ok_or_else(|| format!("{value} has no content"))?;
    let special = flag(object, "special", special)?;
    Ok(AddedToken {
        content: content.into(),
        single_word: flag(object, "single_word", false)?,
        lstrip: flag(object, "lstrip", false)?,
        rstrip: flag(object, "rstrip", false)?,
        normalized: flag(object, "normalized", !special)?,
        special,
    })
}

pub(crate) fn flag(object: &Map<String, Value>, name: &str, default: bool) -> std::result::Result<bool, String> {
    match object.get(name) {
        None => Ok(default),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => Err(format!("the option {name} = {other} is neither true nor false")),
    }
}

pub(crate) fn list(object: &Map<String, Value>, name: &str) -> std::result::Result<Vec<Value>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => Ok(values.clone()),
        Some(other) => Err(format!("the option {name} = {other} is no list")),
    }
}
