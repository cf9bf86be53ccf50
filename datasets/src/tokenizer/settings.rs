//! Settings in the files beside a vocabulary: `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` and the
//! class that `config.json` names. They are put together as `from_pretrained` of transformers 4.57 does.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use crate::error::Result;
use crate::tokenizer::choice::{class, object, refused};
use crate::tokenizer::class::{Class, Family};
use crate::tokenizer::files::{ADDED_TOKENS, CONFIG, SPECIAL_TOKENS_MAP};
use crate::tokenizer::options;
use crate::tokenizer::special::{
    ADDITIONAL, ATTRIBUTES, DECODER, content, decoded, flag, flagged, list, listed, merge, numbered,
};
use crate::tokenizer::token::Token;

const EXTRA: &str = "extra_special_tokens";

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
