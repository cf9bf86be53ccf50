//! Text to ids: the fast Hugging Face tokenizers, read from the files of a checkpoint.
//!
//! Truncation and padding stored in a `tokenizer.json` are ignored: how long a row may be is part of a run, and how
//! it is padded is the matter of [`crate::batch`].

use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::utils::truncation::{TruncationParams, truncate_encodings};
use tokenizers::{AddedToken, PostProcessor};

use crate::{Error, Example, Result};

const JSON: &str = "tokenizer.json";
const VOCABULARY: &str = "vocab.txt";
const CONFIG: &str = "tokenizer_config.json";
const GET_AGAIN: &str = "Download the checkpoint's tokenizer files again";

/// A tokenizer of one checkpoint.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pad_id: u32,
    sha256: String,
}

/// The ids of one row, special tokens included, without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Segment of each token: 0 for the first text, 1 for the second (all 0 where the model knows no segments).
    pub type_ids: Vec<u8>,
}

/// A tokenised [`Example`].
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Its ids.
    pub encoding: Encoding,
    /// Class id, or the score.
    pub label: f64,
    /// Row in its source file, from 0.
    pub row: usize,
}

/// What of `tokenizer_config.json` changes ids.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    do_lower_case: bool,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: bool,
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

impl Tokenizer {
    /// Reads `tokenizer.json` of `dir`, or else `vocab.txt` as a BERT WordPiece vocabulary (lower case unless
    /// `tokenizer_config.json` says otherwise).
    ///
    /// # Errors
    /// [`Error::Missing`] where neither file is there, [`Error::Corrupt`] where one is damaged.
    pub fn from_dir(dir: &Path) -> Result<Self> {
        let config = read_config(dir)?;
        let json = dir.join(JSON);
        if json.is_file() {
            return Self::from_json(&json, config);
        }
        let vocabulary = dir.join(VOCABULARY);
        if vocabulary.is_file() {
            return Self::from_vocabulary(&vocabulary, config);
        }
        Err(Error::Missing {
            what: format!("tokenizer ({JSON} or {VOCABULARY})"),
            path: dir.to_path_buf(),
            help: "Point to a checkpoint directory that holds one of the two".into(),
        })
    }

    fn from_json(path: &Path, config: Config) -> Result<Self> {
        let bytes = read(path)?;
        let mut inner =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| corrupt(path, "a tokenizer", e.to_string()))?;
        let stored = inner.get_padding().map(|padding| padding.pad_token.clone());
        let configured = config.pad_token.map(|pad| match pad {
            Pad::Text(content) | Pad::Token { content } => content,
        });
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|e| corrupt(path, "a tokenizer", e.to_string()))?;
        Self::finish(inner, [configured, stored].into_iter().flatten(), path, &bytes)
    }

    fn from_vocabulary(path: &Path, config: Config) -> Result<Self> {
        let bytes = read(path)?;
        let corrupt = |detail: String| corrupt(path, "a WordPiece vocabulary", detail);
        let vocabulary = WordPiece::read_bytes(&bytes).map_err(|e| corrupt(e.to_string()))?;
        let id = |token: &str| {
            vocabulary.get(token).copied().ok_or_else(|| corrupt(format!("the token {token} is not in it")))
        };
        id("[UNK]")?;
        let processing = BertProcessing::new(("[SEP]".into(), id("[SEP]")?), ("[CLS]".into(), id("[CLS]")?));
        let model = WordPiece::builder().vocab(vocabulary).build().map_err(|e| corrupt(e.to_string()))?;
        let mut inner = tokenizers::Tokenizer::new(model);
        let normalizer =
            BertNormalizer::new(true, config.tokenize_chinese_chars, config.strip_accents, config.do_lower_case);
        inner.with_normalizer(Some(normalizer)).map_err(|e| corrupt(e.to_string()))?;
        inner.with_pre_tokenizer(Some(BertPreTokenizer));
        inner.with_post_processor(Some(processing));
        // Only tokens the vocabulary holds: a new one would get an id that no embedding has.
        let special = ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"].into_iter();
        let special: Vec<AddedToken> = special
            .filter(|token| inner.token_to_id(token).is_some())
            .map(|token| AddedToken::from(token, true))
            .collect();
        inner.add_special_tokens(special).map_err(|e| corrupt(e.to_string()))?;
        Self::finish(inner, std::iter::empty(), path, &bytes)
    }

    fn finish(
        inner: tokenizers::Tokenizer,
        pad: impl Iterator<Item = String>,
        path: &Path,
        bytes: &[u8],
    ) -> Result<Self> {
        let pad_id = pad
            .chain(["[PAD]".to_string(), "<pad>".to_string()])
            .find_map(|token| inner.token_to_id(&token))
            .ok_or_else(|| corrupt(path, "a tokenizer", "it has no padding token".into()))?;
        Ok(Tokenizer { inner, pad_id, sha256: hex::encode(Sha256::digest(bytes)) })
    }

    /// Ids of one text or a pair, special tokens included, at most `max_length` of them.
    ///
    /// A pair that is too long loses tokens by the fast tokenizer's `longest_first`; an empty second text counts as
    /// none, as there.
    ///
    /// # Errors
    /// [`Error::Encode`] where `max_length` leaves no room for the special tokens or the tokenizer refuses the text.
    pub fn encode(&self, first: &str, second: Option<&str>, max_length: usize) -> Result<Encoding> {
        let second = second.filter(|text| !text.is_empty());
        let processor = self.inner.get_post_processor();
        let special = processor.map_or(0, |p| p.added_tokens(second.is_some()));
        let Some(room) = max_length.checked_sub(special) else {
            return Err(Error::Encode {
                detail: format!("maximum length {max_length} is below the {special} special tokens of a row"),
                help: "Use a larger maximum length".into(),
            });
        };
        let fail = |e: tokenizers::Error| Error::Encode { detail: e.to_string(), help: String::new() };
        let plain = |text: &str| self.inner.encode(text, false).map_err(fail);
        let pair = match second {
            None => None,
            Some(text) => {
                let mut encoding = plain(text)?;
                let length = encoding.len();
                encoding.set_type_ids(vec![1; length]);
                Some(encoding)
            }
        };
        let limit = TruncationParams { max_length: room, ..TruncationParams::default() };
        let (head, pair) = truncate_encodings(plain(first)?, pair, &limit).map_err(fail)?;
        let encoding = self.inner.post_process(head, pair, true).map_err(fail)?;
        Ok(Encoding {
            ids: encoding.get_ids().to_vec(),
            type_ids: encoding.get_type_ids().iter().map(|&id| u8::from(id != 0)).collect(),
        })
    }

    /// [`Tokenizer::encode`] for every row, in their order.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_all(&self, examples: &[Example], max_length: usize) -> Result<Vec<Encoded>> {
        examples
            .iter()
            .map(|example| {
                let encoding = self.encode(&example.first, example.second.as_deref(), max_length)?;
                Ok(Encoded { encoding, label: example.label, row: example.row })
            })
            .collect()
    }

    /// Id of the padding token.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// SHA-256 of the file it was read from, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Number of tokens, added ones included: what the embedding must hold at least.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

fn read_config(dir: &Path) -> Result<Config> {
    let path = dir.join(CONFIG);
    if !path.is_file() {
        return Ok(Config::default());
    }
    serde_json::from_slice(&read(&path)?).map_err(|e| corrupt(&path, "a tokenizer configuration", e.to_string()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: PathBuf::from(path), source })
}

fn corrupt(path: &Path, format: &'static str, detail: String) -> Error {
    Error::Corrupt { path: path.to_path_buf(), format, detail, help: GET_AGAIN.into() }
}
