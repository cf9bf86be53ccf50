//! Text to ids, from the tokenizer files of a checkpoint.

pub mod charsmap;
mod config;
mod fast;
pub mod sentencepiece;
pub mod spm;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::config::Config;
use self::sentencepiece::SentencePiece;
use self::spm::SpmModel;
use crate::{Error, Example, Result};

const SPM: &str = "spm.model";
const JSON: &str = "tokenizer.json";
const WORDPIECE: &str = "vocab.txt";
const BPE: [&str; 2] = ["vocab.json", "merges.txt"];
/// Every file that may be a tokenizer's, the first found is the one that counts.
pub const FILES: [&str; 5] = [SPM, JSON, WORDPIECE, BPE[0], BPE[1]];
const GET_AGAIN: &str = "Download the checkpoint's tokenizer files again";
/// Special tokens of BERT and DeBERTa.
const SPECIAL: [&str; 5] = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"];

/// How a sentencepiece model is read; other tokenizers have one way only, which is `fast`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behaviour {
    /// As sentencepiece itself, and so the slow tokenizer of transformers, which the released code used (spec §4.2).
    #[default]
    Sentencepiece,
    /// As the fast tokenizer that transformers 4.57 converts from it.
    Fast,
}

impl Behaviour {
    /// Name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Behaviour::Sentencepiece => "sentencepiece",
            Behaviour::Fast => "fast",
        }
    }
}

impl std::str::FromStr for Behaviour {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = [Behaviour::Sentencepiece, Behaviour::Fast];
        let found = all.into_iter().find(|behaviour| behaviour.name() == name);
        found.ok_or_else(|| Error::unknown("tokenizer behaviour", name, all.map(Behaviour::name)))
    }
}

/// A tokenizer of one checkpoint.
pub struct Tokenizer {
    engine: Engine,
    pad_id: u32,
    sha256: String,
}

enum Engine {
    Fast(Box<tokenizers::Tokenizer>),
    Sentencepiece { model: SentencePiece, cls: u32, sep: u32, vocab_size: usize },
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

impl Tokenizer {
    /// Reads the first of these that `dir` has: `spm.model` (DeBERTa, read as `behaviour` says), `tokenizer.json`,
    /// `vocab.txt` (a BERT WordPiece vocabulary, lower case unless `tokenizer_config.json` says otherwise), `vocab.json`
    /// with `merges.txt` (RoBERTa's byte-level BPE).
    ///
    /// # Errors
    /// [`Error::Missing`] where none is there, [`Error::Corrupt`] where one is damaged.
    pub fn from_dir(dir: &Path, behaviour: Behaviour) -> Result<Self> {
        let [spm, json, wordpiece, vocabulary, merges] = FILES.map(|file| dir.join(file));
        if spm.is_file() {
            return Self::from_spm(&spm, behaviour);
        }
        let config = Config::of(dir)?;
        let (path, (inner, stored_pad), bytes) = if json.is_file() {
            let bytes = read(&json)?;
            (&json, fast::from_json(&json, &bytes)?, bytes)
        } else if wordpiece.is_file() {
            let bytes = read(&wordpiece)?;
            (&wordpiece, (fast::from_wordpiece(&wordpiece, &bytes, &config)?, None), bytes)
        } else if vocabulary.is_file() && merges.is_file() {
            let (mut bytes, pairs) = (read(&vocabulary)?, read(&merges)?);
            let inner = fast::from_bpe(&vocabulary, &bytes, &pairs)?;
            bytes.extend(pairs);
            (&vocabulary, (inner, None), bytes)
        } else {
            return Err(Error::Missing {
                what: format!("tokenizer ({SPM}, {JSON}, {WORDPIECE}, or {} with {})", BPE[0], BPE[1]),
                path: dir.to_path_buf(),
                help: "Point to a checkpoint directory that holds one of these".into(),
            });
        };
        // What the configuration says changes ids, too.
        let sum = Sha256::new().chain_update(&bytes).chain_update(config.text()).finalize();
        let pads = config.pad_token().into_iter().chain(stored_pad);
        let pad_id = pads
            .chain(["[PAD]".to_string(), "<pad>".to_string()])
            .find_map(|token| inner.token_to_id(&token))
            .ok_or_else(|| corrupt(path, "a tokenizer", "it has no padding token".into()))?;
        Ok(Tokenizer { engine: Engine::Fast(Box::new(inner)), pad_id, sha256: hex::encode(sum) })
    }

    fn from_spm(path: &Path, behaviour: Behaviour) -> Result<Self> {
        let bytes = read(path)?;
        let broken = |detail: String| corrupt(path, "a sentencepiece model", detail);
        let model = SpmModel::parse(&bytes).map_err(broken)?;
        let piece = |token: &str| model.pieces.iter().position(|piece| piece.text == token).map(|id| id as u32);
        // [MASK] is no piece: transformers adds it after the last one.
        let added = |token: &str| (token == "[MASK]").then_some(model.pieces.len() as u32);
        let id = |token: &'static str| {
            let id = piece(token).or_else(|| added(token));
            Ok((token, id.ok_or_else(|| broken(format!("the piece {token} is not in it")))?))
        };
        let special = SPECIAL.into_iter().map(id).collect::<Result<Vec<_>>>()?;
        let [(_, pad_id), (_, cls), (_, sep), ..] = special[..] else { unreachable!("five special tokens") };
        let engine = match behaviour {
            Behaviour::Fast => Engine::Fast(Box::new(fast::from_spm(path, &model, &special)?)),
            Behaviour::Sentencepiece => {
                let vocab_size =
                    model.pieces.len().max(1 + special.iter().map(|(_, id)| *id as usize).max().unwrap_or(0));
                Engine::Sentencepiece {
                    model: SentencePiece::new(model, special).map_err(broken)?,
                    cls,
                    sep,
                    vocab_size,
                }
            }
        };
        Ok(Tokenizer { engine, pad_id, sha256: hex::encode(Sha256::digest(&bytes)) })
    }

    /// Ids of one text or a pair, special tokens included, at most `max_length` of them. A pair that is too long loses
    /// tokens from its longer text; which one on a tie, and what an empty second text is, is the tokenizer's behaviour.
    ///
    /// # Errors
    /// [`Error::Encode`] where `max_length` leaves no room for the special tokens or the tokenizer refuses the text.
    pub fn encode(&self, first: &str, second: Option<&str>, max_length: usize) -> Result<Encoding> {
        match &self.engine {
            Engine::Fast(inner) => fast::encode(inner, first, second, max_length),
            Engine::Sentencepiece { model, cls, sep, .. } => {
                let second = second.map(|text| model.encode(text));
                lay_out(model.encode(first), second, [*cls, *sep], max_length)
            }
        }
    }

    /// [`Tokenizer::encode`] for every row, in their order, on every processor.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_all(&self, examples: &[Example], max_length: usize) -> Result<Vec<Encoded>> {
        let encode = |example: &Example| {
            let encoding = self.encode(&example.first, example.second.as_deref(), max_length)?;
            Ok(Encoded { encoding, label: example.label, row: example.row })
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let share = examples.len().div_ceil(workers).max(1);
        let encode_share = |share: &[Example]| share.iter().map(encode).collect::<Result<Vec<_>>>();
        let shares: Vec<Result<Vec<Encoded>>> = std::thread::scope(|scope| {
            let started: Vec<_> = examples.chunks(share).map(|rows| scope.spawn(move || encode_share(rows))).collect();
            started.into_iter().map(|worker| worker.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
        });
        Ok(shares.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// How it reads: `fast` wherever there is only one way.
    pub fn behaviour(&self) -> Behaviour {
        match self.engine {
            Engine::Fast(_) => Behaviour::Fast,
            Engine::Sentencepiece { .. } => Behaviour::Sentencepiece,
        }
    }

    /// Id of the padding token.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// SHA-256 of the file it was read from (of `vocab.json` followed by `merges.txt`) and of what is heeded of
    /// `tokenizer_config.json`, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Number of tokens, added ones included: what the embedding must hold at least.
    pub fn vocab_size(&self) -> usize {
        match &self.engine {
            Engine::Fast(inner) => inner.get_vocab_size(true),
            Engine::Sentencepiece { vocab_size, .. } => *vocab_size,
        }
    }
}

/// `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]` as the slow tokenizers of transformers do it: token by token the longer
/// text is cut, the second on a tie; an empty second text still has its separator.
fn lay_out(mut first: Vec<u32>, second: Option<Vec<u32>>, [cls, sep]: [u32; 2], max_length: usize) -> Result<Encoding> {
    let room = room(max_length, if second.is_some() { 3 } else { 2 })?;
    let mut second = second;
    let mut other = second.as_mut();
    while first.len() + other.as_ref().map_or(0, |ids| ids.len()) > room {
        match &mut other {
            Some(ids) if ids.len() >= first.len() => ids.truncate(ids.len() - 1),
            _ => first.truncate(first.len() - 1),
        }
    }
    let mut ids = vec![cls];
    ids.append(&mut first);
    ids.push(sep);
    let mut type_ids = vec![0; ids.len()];
    if let Some(second) = second {
        ids.extend(second);
        ids.push(sep);
        type_ids.resize(ids.len(), 1);
    }
    Ok(Encoding { ids, type_ids })
}

/// Tokens that are left beside the special ones.
fn room(max_length: usize, special: usize) -> Result<usize> {
    max_length.checked_sub(special).ok_or_else(|| Error::Encode {
        detail: format!("maximum length {max_length} is below the {special} special tokens of a row"),
        help: "Use a larger maximum length".into(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| Error::Io { path: PathBuf::from(path), source })
}

fn corrupt(path: &Path, format: &'static str, detail: String) -> Error {
    Error::Corrupt { path: path.to_path_buf(), format, detail, help: GET_AGAIN.into() }
}
