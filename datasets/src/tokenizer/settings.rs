//! Settings in the files beside a vocabulary: `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` and the
//! class that `config.json` names. They are put together as `from_pretrained` of transformers 4.57 does.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::{Error, Result};
use crate::tokenizer::class::{Class, Family};
use crate::tokenizer::token::Token;
use crate::tokenizer::{CONFIG, options, read};

const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";
const MODEL_CONFIG: &str = "config.json";
/// Files beside a vocabulary that decide ids.
pub const OPTION_FILES: [&str; 3] = [CONFIG, SPECIAL_TOKENS_MAP, ADDED_TOKENS];
/// transformers' SPECIAL_TOKENS_ATTRIBUTES, in their order.
const ATTRIBUTES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const ADDITIONAL: &str = "additional_special_tokens";
const EXTRA: &str = "extra_special_tokens";
const DECODER: &str = "added_tokens_decoder";
const HELP: &str = "Correct the file, or take the checkpoint's own one again";

/// On which side a row that is too long loses tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The end.
    Right,
    /// The beginning.
    Left,
}

/// Everything that decides ids beside the vocabulary.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which class reads.
    pub class: Class,
    /// Whether text becomes lower case.
    pub do_lower_case: bool,
    /// Whether accents are stripped; as `do_lower_case` where it is not said.
    pub strip_accents: Option<bool>,
    /// Whether each Chinese character is a word.
    pub tokenize_chinese_chars: bool,
    /// Whether punctuation stands alone (DeBERTa).
    pub split_by_punct: bool,
    /// Whether a space is put before the text (RoBERTa).
    pub add_prefix_space: bool,
    /// Whether special tokens in a text are text.
    pub split_special_tokens: bool,
    /// Where rows are cut, if a file says so.
    pub truncation_side: Option<Side>,
    /// Whether the model is given segments.
    pub has_type_ids: bool,
    /// Special tokens by attribute, in transformers' order.
    pub special: Vec<(String, Token)>,
    /// Added tokens by the id their file gives.
    pub added: BTreeMap<u32, AddedToken>,
    /// Options of `tokenizer_config.json` that the checksum of a tokenizer has held from the beginning.
    pub text: String,
    /// Whether added tokens of `tokenizer.json` count as if a file of their own held them: no file has a decoder of them.
    pub is_legacy: bool,
    /// Whether `tokenizer_file` is null: then the class's own vocabulary comes before `tokenizer.json`.
    pub is_json_unset: bool,
    /// Ids that `tokenizer.json` gives; they come before those of the files.
    pub json_ids: BTreeMap<String, u32>,
    explicit: Vec<String>,
}

impl Settings {
    /// Defaults of a class where no file says anything.
    pub fn of_class(class: Class) -> Self {
        let mut settings = Settings {
            class,
            do_lower_case: class.family == Family::Bert,
            strip_accents: None,
            tokenize_chinese_chars: true,
            split_by_punct: false,
            add_prefix_space: false,
            split_special_tokens: false,
            truncation_side: None,
            has_type_ids: class.has_type_ids,
            special: Vec::new(),
            added: BTreeMap::new(),
            text: legacy_text(&Map::new()),
            is_legacy: true,
            is_json_unset: false,
            json_ids: BTreeMap::new(),
            explicit: Vec::new(),
        };
        let own = ATTRIBUTES.iter().filter_map(|name| Some((name.to_string(), class.special(name)?)));
        settings.special = own.collect();
        settings
    }

    /// Reads the files of `dir`; `fallback` is the family where none names a class.
    ///
    /// # Errors
    /// A file that is damaged or holds an option that is not supported.
    pub fn read(dir: &Path, fallback: Family) -> Result<Self> {
        let config = object(dir, CONFIG)?;
        let class = class(dir, config.as_ref(), fallback)?;
        let has_decoder = config.as_ref().is_some_and(|config| config.get(DECODER).is_some());
        let mut from_map = Vec::new();
        let mut all = config.unwrap_or_default();
        let text = legacy_text(&all);
        if !has_decoder && let Some(map) = object(dir, SPECIAL_TOKENS_MAP)? {
            from_map = map.keys().cloned().collect();
            merge(&mut all, map).map_err(|detail| refused(dir, SPECIAL_TOKENS_MAP, detail))?;
        }
        let named = |detail| refused(dir, CONFIG, detail);
        options::check(&all, class.family).map_err(named)?;
        let mut settings = Settings::of_class(class);
        settings.is_legacy = !has_decoder;
        settings.text = text;
        settings.take_options(&all).map_err(named)?;
        settings.take_special(&all).map_err(named)?;
        match all.get(DECODER).and_then(Value::as_object) {
            Some(decoder) => settings.added = decoded(decoder).map_err(named)?,
            None if has_decoder => return Err(named(format!("the option {DECODER} is not an object"))),
            None => {
                if let Some(added) = object(dir, ADDED_TOKENS)? {
                    let special = listed(&all, &from_map);
                    settings.added = numbered(&added, &special).map_err(|detail| refused(dir, ADDED_TOKENS, detail))?;
                }
            }
        }
        settings.use_flags_of_added();
        Ok(settings)
    }

    /// Takes the added tokens of `tokenizer.json`, as transformers does where nothing else lists them.
    ///
    /// # Errors
    /// An entry that is no token.
    pub fn take_json(&mut self, json: &Value) -> std::result::Result<(), String> {
        if !self.is_legacy {
            return Ok(());
        }
        for entry in json.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            let id = entry.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| format!("an added token has no id: {entry}"))?;
            let token = flagged(entry, false)?;
            self.json_ids.insert(token.content.clone(), id);
            self.added.insert(id, token);
        }
        self.use_flags_of_added();
        Ok(())
    }

    /// A special token given by a file is the added token of the same text.
    fn use_flags_of_added(&mut self) {
        let added = &self.added;
        for (name, token) in &mut self.special {
            if self.explicit.contains(name)
                && name != ADDITIONAL
                && let Some(same) = added.values().find(|added| added.content == token.content())
            {
                *token = Token::Added(same.clone());
            }
        }
    }

    /// The text of one special token.
    pub fn content(&self, attribute: &str) -> Option<&str> {
        self.special.iter().find(|(name, _)| name == attribute).map(|(_, token)| token.content())
    }

    /// Special tokens, each text once, in the order transformers adds them.
    pub fn unique_special(&self) -> Vec<&Token> {
        let mut unique: Vec<&Token> = Vec::new();
        for (_, token) in &self.special {
            if !unique.iter().any(|known| known.content() == token.content()) {
                unique.push(token);
            }
        }
        unique
    }

    fn take_options(&mut self, all: &Map<String, Value>) -> std::result::Result<(), String> {
        self.do_lower_case = flag(all, "do_lower_case", self.do_lower_case)?;
        self.strip_accents = match all.get("strip_accents") {
            None | Some(Value::Null) => None,
            Some(_) => Some(flag(all, "strip_accents", false)?),
        };
        self.tokenize_chinese_chars = flag(all, "tokenize_chinese_chars", self.tokenize_chinese_chars)?;
        self.split_by_punct = flag(all, "split_by_punct", false)?;
        self.add_prefix_space = flag(all, "add_prefix_space", false)?;
        self.split_special_tokens = flag(all, "split_special_tokens", false)?;
        self.is_json_unset = all.get("tokenizer_file").is_some_and(Value::is_null);
        self.truncation_side = match all.get("truncation_side") {
            None | Some(Value::Null) => None,
            Some(side) if side == "right" => Some(Side::Right),
            Some(side) if side == "left" => Some(Side::Left),
            Some(other) => return Err(format!("the option truncation_side = {other} is neither left nor right")),
        };
        if let Some(names) = all.get("model_input_names").filter(|names| !names.is_null()) {
            let has = |name: &str| names.as_array().is_some_and(|names| names.iter().any(|known| known == name));
            if !(has("input_ids") && has("attention_mask")) {
                return Err(format!("the option model_input_names = {names} lacks input_ids or attention_mask"));
            }
            self.has_type_ids = has("token_type_ids");
        }
        Ok(())
    }

    fn take_special(&mut self, all: &Map<String, Value>) -> std::result::Result<(), String> {
        let mut special = Vec::new();
        for name in ATTRIBUTES {
            let found = match all.get(name) {
                None => self.class.special(name),
                Some(Value::Null) => None,
                Some(value) => {
                    self.explicit.push(name.to_string());
                    Some(self.token(name, value)?)
                }
            };
            special.extend(found.map(|token| (name.to_string(), token)));
        }
        let extra = all.get(EXTRA);
        for value in list(all, ADDITIONAL)?.iter().chain(extra.and_then(Value::as_array).into_iter().flatten()) {
            special.push((ADDITIONAL.to_string(), self.token(ADDITIONAL, value)?));
        }
        match extra {
            Some(Value::Object(named)) => {
                for (name, value) in named {
                    special.push((name.clone(), self.token(name, value)?));
                }
            }
            None | Some(Value::Null | Value::Array(_)) => {}
            Some(other) => return Err(format!("the option {EXTRA} = {other} is neither a list nor an object")),
        }
        self.special = special;
        Ok(())
    }

    fn token(&self, name: &str, value: &Value) -> std::result::Result<Token, String> {
        match value {
            Value::String(content) => Ok(self.class.as_token(name, content)),
            Value::Object(_) => Ok(Token::Added(flagged(value, false)?)),
            other => Err(format!("the option {name} holds {other}, which is no token")),
        }
    }
}

/// Four options as every tokenizer's checksum holds them: BERT's defaults stand for what is not there.
fn legacy_text(config: &Map<String, Value>) -> String {
    let flag = |name: &str| config.get(name).and_then(Value::as_bool);
    let (lower, chinese) = (flag("do_lower_case").unwrap_or(true), flag("tokenize_chinese_chars").unwrap_or(true));
    let pad = config.get("pad_token").and_then(content).map(str::to_string);
    format!("{lower} {:?} {chinese} {pad:?}", flag("strip_accents"))
}

/// `special_tokens_map.json` over the configuration: its tokens are special, and lists are put together.
fn merge(all: &mut Map<String, Value>, map: Map<String, Value>) -> std::result::Result<(), String> {
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
fn listed(all: &Map<String, Value>, from_map: &[String]) -> Vec<String> {
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

fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// `added_tokens_decoder`: flags by id.
fn decoded(decoder: &Map<String, Value>) -> std::result::Result<BTreeMap<u32, AddedToken>, String> {
    let entry = |(id, value): (&String, &Value)| {
        let number = id.trim().parse().map_err(|_| format!("{DECODER}: {id:?} is no id"))?;
        Ok((number, flagged(value, false)?))
    };
    decoder.iter().map(entry).collect()
}

/// `added_tokens.json`: ids by text.
fn numbered(added: &Map<String, Value>, special: &[String]) -> std::result::Result<BTreeMap<u32, AddedToken>, String> {
    let entry = |(content, id): (&String, &Value)| {
        let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
        let number = number.ok_or_else(|| format!("{content:?} has the id {id}"))?;
        Ok((number, AddedToken::from(content.as_str(), special.contains(content))))
    };
    added.iter().map(entry).collect()
}

/// A token with its flags; `normalized` is the opposite of `special` where it is left out.
fn flagged(value: &Value, special: bool) -> std::result::Result<AddedToken, String> {
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

fn flag(object: &Map<String, Value>, name: &str, default: bool) -> std::result::Result<bool, String> {
    match object.get(name) {
        None => Ok(default),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => Err(format!("the option {name} = {other} is neither true nor false")),
    }
}

fn list(object: &Map<String, Value>, name: &str) -> std::result::Result<Vec<Value>, String> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => Ok(values.clone()),
        Some(other) => Err(format!("the option {name} = {other} is no list")),
    }
}

/// The class that the files name, else that of the model, else the vocabulary's.
fn class(dir: &Path, config: Option<&Map<String, Value>>, fallback: Family) -> Result<Class> {
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

fn object(dir: &Path, file: &str) -> Result<Option<Map<String, Value>>> {
    let path = dir.join(file);
    if !path.is_file() {
        return Ok(None);
    }
    let parsed = serde_json::from_slice(&read(&path)?);
    parsed.map(Some).map_err(|e| refused(dir, file, e.to_string()))
}

fn refused(dir: &Path, file: &str, detail: String) -> Error {
    let format = if file == CONFIG { "a tokenizer configuration" } else { "a tokenizer's file" };
    Error::Corrupt { path: dir.join(file), format, detail, help: HELP.into() }
}
