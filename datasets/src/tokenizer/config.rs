//! What of `tokenizer_config.json` changes ids.

use std::path::Path;

use serde::Deserialize;

use super::{corrupt, read};
use crate::Result;

const FILE: &str = "tokenizer_config.json";

/// The options that are honoured; `do_lower_case` and what goes with it hold for a WordPiece vocabulary.
#[derive(Deserialize)]
#[serde(default)]
pub struct Config {
    pub do_lower_case: bool,
    pub strip_accents: Option<bool>,
    pub tokenize_chinese_chars: bool,
    pad_token: Option<Pad>,
}

/// A special token is written as a string or as an object with its content.
#[derive(Deserialize)]
#[serde(untagged)]
enum Pad {
    Text(String),
    Token { content: String },
}

impl Default for Config {
    fn default() -> Self {
        Config { do_lower_case: true, strip_accents: None, tokenize_chinese_chars: true, pad_token: None }
    }
}

impl Config {
    /// Of the checkpoint in `dir`; the defaults where it has none.
    pub fn of(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        if !path.is_file() {
            return Ok(Config::default());
        }
        serde_json::from_slice(&read(&path)?).map_err(|e| corrupt(&path, "a tokenizer configuration", e.to_string()))
    }

    /// Everything it says that is heeded, as one text.
    pub fn text(&self) -> String {
        let Config { do_lower_case, strip_accents, tokenize_chinese_chars, .. } = self;
        format!("{do_lower_case} {strip_accents:?} {tokenize_chinese_chars} {:?}", self.pad_token())
    }

    /// The padding token it names.
    pub fn pad_token(&self) -> Option<String> {
        self.pad_token.as_ref().map(|pad| match pad {
            Pad::Text(content) | Pad::Token { content } => content.clone(),
        })
    }
}
