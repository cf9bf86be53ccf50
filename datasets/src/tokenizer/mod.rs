//! Text to ids, from the tokenizer files of a checkpoint.

pub mod charsmap;
mod class;
mod fast;
mod options;
pub mod sentencepiece;
mod settings;
mod slow;
pub mod spm;
mod token;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokenizers::Model;

use self::class::Family;
use self::sentencepiece::SentencePiece;
pub use self::settings::OPTION_FILES;
use self::settings::{Settings, Side};
use self::slow::{Added, Slow};
use self::spm::SpmModel;
use crate::dataset::Example;
use crate::error::guarded;
use crate::error::{Error, Result};

const SPM: &str = "spm.model";
const JSON: &str = "tokenizer.json";
const WORDPIECE: &str = "vocab.txt";
const BPE: [&str; 2] = ["vocab.json", "merges.txt"];
const CONFIG: &str = "tokenizer_config.json";
/// Every file that may hold a vocabulary.
pub const FILES: [&str; 5] = [SPM, JSON, WORDPIECE, BPE[0], BPE[1]];
const GET_AGAIN: &str = "Download the checkpoint's tokenizer files again";

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
    /// The file with the vocabulary.
    path: PathBuf,
    pad_id: u32,
    vocab_size: usize,
    side: Side,
    has_type_ids: bool,
    sha256: String,
    /// Whether sentencepiece's own reading was asked for and there is no `spm.model`.
    is_second_best: bool,
    embeddings: Embeddings,
}

/// Rows of the backbone's embeddings: an id beyond them is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Embeddings {
    /// Token ids.
    pub tokens: usize,
    /// Segments.
    pub segments: usize,
}

enum Engine {
    Fast(Box<tokenizers::Tokenizer>),
    Sentencepiece { slow: Box<Slow>, cls: u32, sep: u32 },
}

/// Content of the vocabulary's file.
struct Parts {
    engine: Engine,
    pad_id: Option<u32>,
    vocab_size: usize,
    side: Option<Side>,
    /// Whether the file itself asks for padding on the left.
    pads_left: bool,
}

impl Parts {
    fn of(engine: Engine, pad_id: Option<u32>, vocab_size: usize) -> Self {
        Parts { engine, pad_id, vocab_size, side: None, pads_left: false }
    }

    /// Everything that decides ids besides the vocabulary, as one text.
    fn effect(&self) -> String {
        let of_engine = match &self.engine {
            Engine::Fast(inner) => fast::effect(inner).unwrap_or_default(),
            Engine::Sentencepiece { slow, cls, sep } => format!("{} {cls} {sep}", slow.effect()),
        };
        format!("{of_engine} {:?}", self.pad_id)
    }
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
    /// Reads a checkpoint's tokenizer as `AutoTokenizer` of transformers 4.57 does: the class is that of
    /// `tokenizer_config.json`, else of `config.json`, else of the vocabulary that is there. `tokenizer.json` comes before
    /// the class's own vocabulary: `vocab.txt` (BERT), `vocab.json` with `merges.txt` (RoBERTa), `spm.model` (DeBERTa). With
    /// [`Behaviour::Sentencepiece`] a DeBERTa's `spm.model` comes first, and is read as the slow class does.
    ///
    /// # Errors
    /// [`Error::Missing`] where no vocabulary is there, [`Error::Corrupt`] where a file is damaged or holds an option that
    /// is not supported.
    pub fn from_dir(dir: &Path, behaviour: Behaviour) -> Result<Self> {
        let has = |file: &str| dir.join(file).is_file();
        let Some(fallback) = family_of_files(dir) else {
            return Err(Error::Missing {
                what: format!("tokenizer ({SPM}, {JSON}, {WORDPIECE}, or {} with {})", BPE[0], BPE[1]),
                path: dir.to_path_buf(),
                help: "Point to a checkpoint directory that holds one of these".into(),
            });
        };
        let settings = Settings::read(dir, fallback)?;
        let class = settings.class;
        let own: &[&str] = match class.family {
            Family::Bert => &[WORDPIECE],
            Family::Roberta => &BPE,
            Family::Deberta => &[SPM],
            Family::Json => &[JSON],
        };
        let has_own = own.iter().all(|file| has(file));
        let is_slow = class.family == Family::Deberta && behaviour == Behaviour::Sentencepiece;
        let file = match has(JSON) && !(has_own && (is_slow || settings.is_json_unset)) {
            true => JSON,
            false if has_own => own[0],
            false => {
                return Err(Error::Missing {
                    what: format!("tokenizer of the class {} ({JSON} or {})", class.name, own.join(" with ")),
                    path: dir.to_path_buf(),
                    help: format!("Add the file, or correct tokenizer_class in {CONFIG}"),
                });
            }
        };
        let path = dir.join(file);
        guarded(&path, "a tokenizer", || Self::read(dir, &path, settings, is_slow))
    }

    fn read(dir: &Path, path: &Path, mut settings: Settings, is_slow: bool) -> Result<Self> {
        let bytes = read(path)?;
        let broken = |detail: String| corrupt(path, "a tokenizer", detail);
        let is_json = path.ends_with(JSON);
        // What the same file gives where nothing else says anything: its checksum is that of the file alone.
        let mut bare = Settings::of_class(settings.class);
        if is_json {
            let json = serde_json::from_slice(&bytes).map_err(|e| broken(e.to_string()))?;
            settings.take_json(&json).map_err(broken)?;
        } else if dir.join(JSON).is_file() {
            let (other, bytes) = (dir.join(JSON), read(&dir.join(JSON))?);
            let json = serde_json::from_slice(&bytes).map_err(|e| corrupt(&other, "a tokenizer", e.to_string()))?;
            settings.take_json(&json).map_err(|detail| corrupt(&other, "a tokenizer", detail))?;
        }
        let mut hash = Sha256::new().chain_update(&bytes);
        let parts = match settings.class.family {
            _ if is_json => json_parts(path, &bytes, Some(&settings))?,
            Family::Deberta => spm_parts(path, &bytes, &settings, is_slow)?,
            _ => {
                let merges = path.with_file_name(BPE[1]);
                let merges = if path.ends_with(BPE[0]) { read(&merges)? } else { Vec::new() };
                hash.update(&merges);
                bare.do_lower_case = settings.do_lower_case;
                bare.strip_accents = settings.strip_accents;
                bare.tokenize_chinese_chars = settings.tokenize_chinese_chars;
                vocabulary_parts(path, &bytes, &merges, &settings)?
            }
        };
        if parts.pads_left {
            return Err(broken("it pads rows on the left, and positions would move".into()));
        }
        if is_json || settings.class.family != Family::Deberta {
            hash.update(&settings.text);
        }
        if OPTION_FILES.iter().chain([&JSON, &"config.json"]).any(|file| dir.join(file).is_file()) {
            let bare = match settings.class.family {
                _ if is_json => json_parts(path, &bytes, None),
                Family::Deberta => spm_parts(path, &bytes, &bare, is_slow),
                Family::Roberta => vocabulary_parts(path, &bytes, &read(&path.with_file_name(BPE[1]))?, &bare),
                _ => vocabulary_parts(path, &bytes, &[], &bare),
            };
            let effect = parts.effect();
            if !bare.is_ok_and(|bare| bare.effect() == effect) {
                hash.update(effect);
            }
        }
        let side = settings.truncation_side.or(parts.side).unwrap_or(Side::Right);
        let knows_segments = matches!(settings.class.family, Family::Bert | Family::Deberta);
        if side == Side::Left || (knows_segments && !settings.has_type_ids) {
            hash.update(format!("{side:?} {}", settings.has_type_ids));
        }
        let pad_id = parts.pad_id.ok_or_else(|| broken("it has no padding token".into()))?;
        Ok(Tokenizer {
            engine: parts.engine,
            path: path.to_path_buf(),
            pad_id,
            vocab_size: parts.vocab_size,
            side,
            has_type_ids: settings.has_type_ids,
            is_second_best: is_slow && is_json,
            embeddings: Embeddings { tokens: usize::MAX, segments: usize::MAX },
            sha256: hex::encode(hash.finalize()),
        })
    }

    /// Ids of one text or a pair, special tokens included, at most `max_length` of them. A pair that is too long loses
    /// tokens from its longer text; which one on a tie, and what an empty second text is, is the tokenizer's behaviour.
    ///
    /// # Errors
    /// [`Error::Encode`] where `max_length` leaves no room for the special tokens or the tokenizer refuses the text.
    pub fn encode(&self, first: &str, second: Option<&str>, max_length: usize) -> Result<Encoding> {
        let mut encoding = match &self.engine {
            Engine::Fast(inner) => {
                guarded(&self.path, "a tokenizer", || fast::encode(inner, first, second, max_length, self.side))?
            }
            Engine::Sentencepiece { slow, cls, sep } => {
                let second = second.map(|text| slow.encode(text));
                lay_out(slow.encode(first), second, [*cls, *sep], max_length, self.side)?
            }
        };
        if !self.has_type_ids {
            encoding.type_ids.fill(0);
        }
        Ok(encoding)
    }

    /// [`Tokenizer::encode`] for every row, in their order, on every processor.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`]; an id or a segment beyond [`Tokenizer::with_embeddings`].
    pub fn encode_all(&self, examples: &[Example], max_length: usize) -> Result<Vec<Encoded>> {
        let encode = |example: &Example| {
            let encoding = self.encode(&example.first, example.second.as_deref(), max_length)?;
            self.check(&encoding, example.row)?;
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

    /// SHA-256 of the file it was read from (of `vocab.json` followed by `merges.txt`) and of what the files beside it
    /// change, in hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Holds rows against what the backbone has embeddings for.
    pub fn with_embeddings(self, embeddings: Embeddings) -> Self {
        Tokenizer { embeddings, ..self }
    }

    /// Whether a pair of texts can be laid out at all.
    ///
    /// # Errors
    /// Its second segment has no embedding.
    pub fn check_pairs(&self) -> Result<()> {
        let pair = self.encode("a", Some("b"), usize::MAX)?;
        self.check_segments(&pair, "a pair of texts")
    }

    fn check(&self, encoding: &Encoding, row: usize) -> Result<()> {
        let Embeddings { tokens, .. } = self.embeddings;
        if let Some(id) = encoding.ids.iter().find(|id| **id as usize >= tokens) {
            let token = match &self.engine {
                Engine::Fast(inner) => inner.id_to_token(*id).map(|token| format!(" ({token:?})")),
                Engine::Sentencepiece { .. } => None,
            };
            let token = token.unwrap_or_default();
            return Err(Error::Encode {
                detail: format!(
                    "row {row} holds the id {id}{token} of {}, which has no embedding: the backbone has {tokens}",
                    self.path.display()
                ),
                help: "Take the tokenizer that the backbone was saved with".into(),
            });
        }
        self.check_segments(encoding, &format!("row {row}"))
    }

    fn check_segments(&self, encoding: &Encoding, what: &str) -> Result<()> {
        let Embeddings { segments, .. } = self.embeddings;
        match encoding.type_ids.iter().max() {
            Some(&last) if usize::from(last) >= segments => Err(Error::Encode {
                detail: format!(
                    "{} gives {what} {} segments, and the backbone has {segments} segment embedding(s)",
                    self.path.display(),
                    usize::from(last) + 1
                ),
                help: "Take the tokenizer that the backbone was saved with, or a task of single texts".into(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether sentencepiece's own reading was asked for and `tokenizer.json` was read, since there is no `spm.model`.
    pub fn is_second_best(&self) -> bool {
        self.is_second_best
    }

    /// The largest id that the files hold, and one: what the embedding must hold at least.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The file with the vocabulary.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Files that decide the ids of the checkpoint in `dir`, whether they are there or not, as far as the others tell.
pub fn deciding_files(dir: &Path) -> Vec<&'static str> {
    let config = std::fs::read(dir.join(CONFIG)).ok();
    let config: serde_json::Value = config.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let mut files = vec![CONFIG];
    if config.get("added_tokens_decoder").is_none() {
        files.extend(OPTION_FILES.into_iter().filter(|file| *file != CONFIG));
    }
    files.push(JSON);
    let family = settings::class_of(dir).map(|class| class.family);
    let has_json = dir.join(JSON).is_file();
    match family {
        Some(Family::Deberta) => files.push(SPM),
        Some(Family::Bert) if !has_json => files.push(WORDPIECE),
        Some(Family::Roberta) if !has_json => files.extend(BPE),
        Some(_) => {}
        None => files.extend(FILES.into_iter().filter(|file| *file != JSON)),
    }
    files
}

/// The family whose vocabulary lies in `dir`; `None` where there is none.
fn family_of_files(dir: &Path) -> Option<Family> {
    let has = |file: &str| dir.join(file).is_file();
    match () {
        () if has(SPM) => Some(Family::Deberta),
        () if has(JSON) => {
            let json = std::fs::read(dir.join(JSON)).unwrap_or_default();
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
            Some(if json["normalizer"]["type"] == "BertNormalizer" { Family::Bert } else { Family::Json })
        }
        () if has(WORDPIECE) => Some(Family::Bert),
        () if BPE.into_iter().all(has) => Some(Family::Roberta),
        () => None,
    }
}

/// `tokenizer.json`, changed as `settings` say.
fn json_parts(path: &Path, bytes: &[u8], settings: Option<&Settings>) -> Result<Parts> {
    let (mut inner, stored) = fast::from_json(path, bytes)?;
    let vocab_size = size(&inner, true);
    let named = settings.and_then(|settings| settings.content("pad_token"));
    let pads = named.into_iter().chain(stored.pad.as_deref()).chain(["[PAD]", "<pad>"]);
    let pad_id = pads.clone().find_map(|token| inner.token_to_id(token));
    let mut pad_id = pad_id;
    if let Some(settings) = settings {
        let help = format!("Correct {CONFIG}, or save the tokenizer again");
        let disagrees = |detail| Error::Corrupt { path: path.into(), format: "a tokenizer", detail, help };
        fast::apply(&mut inner, settings).map_err(disagrees)?;
        let added = named.filter(|pad| settings.added.values().any(|token| token.content == *pad));
        pad_id = added.and_then(|pad| inner.token_to_id(pad)).or(pad_id);
    }
    let engine = Engine::Fast(Box::new(inner));
    Ok(Parts { side: stored.truncation, pads_left: stored.pads_left, ..Parts::of(engine, pad_id, vocab_size) })
}

fn size(inner: &tokenizers::Tokenizer, with_added: bool) -> usize {
    inner.get_vocab(with_added).values().max().map_or(0, |id| *id as usize + 1)
}

/// `vocab.txt`, or `vocab.json` with `merges`.
fn vocabulary_parts(path: &Path, bytes: &[u8], merges: &[u8], settings: &Settings) -> Result<Parts> {
    let inner = match settings.class.family {
        Family::Roberta => fast::from_bpe(path, bytes, merges, settings)?,
        _ => fast::from_wordpiece(path, bytes, settings)?,
    };
    let vocab_size = size(&inner, false);
    let is_listed = |pad: &str| settings.added.values().any(|token| token.content == pad);
    let is_own = |pad: &&str| inner.get_model().token_to_id(pad).is_some() || is_listed(pad);
    let pad = settings.content("pad_token").filter(is_own).or(["[PAD]", "<pad>"].into_iter().find(is_own));
    let pad_id = pad.and_then(|pad| inner.token_to_id(pad));
    Ok(Parts::of(Engine::Fast(Box::new(inner)), pad_id, vocab_size))
}

/// `spm.model`.
fn spm_parts(path: &Path, bytes: &[u8], settings: &Settings, is_slow: bool) -> Result<Parts> {
    let broken = |detail: String| corrupt(path, "a sentencepiece model", detail);
    let model = SpmModel::parse(bytes).map_err(broken)?;
    let pieces: HashMap<&str, u32> = model.pieces.iter().map(|piece| piece.text.as_str()).zip(0..).collect();
    let added = Added::new(settings, &pieces);
    let listed = |token: &str| settings.added.values().any(|added| added.content == token);
    // A special token that no file holds would get an id that no embedding has; only [MASK] is no piece.
    let own = |token: &str| match added.id(token).or_else(|| pieces.get(token).copied()) {
        Some(id) if pieces.contains_key(token) || listed(token) => Ok(id),
        _ => Err(broken(format!("the piece {token} is not in it"))),
    };
    let named = |attribute: &str| {
        let content = settings.content(attribute).ok_or_else(|| broken(format!("{attribute} is null")))?;
        own(content)
    };
    let (pad_id, cls, sep) = (named("pad_token")?, named("cls_token")?, named("sep_token")?);
    named("unk_token")?;
    let mask = settings.content("mask_token").and_then(|mask| added.id(mask)).map_or(0, |id| id as usize + 1);
    let vocab_size = model.pieces.len().max(mask);
    let engine = if is_slow {
        let pieces: HashMap<String, u32> = pieces.iter().map(|(text, id)| (text.to_string(), *id)).collect();
        let model = SentencePiece::new(model).map_err(broken)?;
        let slow = Slow::new(model, settings, &added, &pieces).map_err(broken)?;
        Engine::Sentencepiece { slow: Box::new(slow), cls, sep }
    } else {
        let around = [own("[CLS]")?, own("[SEP]")?];
        Engine::Fast(Box::new(fast::from_spm(path, &model, around, settings)?))
    };
    Ok(Parts::of(engine, Some(pad_id), vocab_size))
}

/// `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]` as the slow tokenizers of transformers do it: token by token the longer
/// text is cut, the second on a tie; an empty second text still has its separator.
fn lay_out(
    mut first: Vec<u32>,
    second: Option<Vec<u32>>,
    [cls, sep]: [u32; 2],
    max_length: usize,
    side: Side,
) -> Result<Encoding> {
    let room = room(max_length, if second.is_some() { 3 } else { 2 })?;
    let mut second = second;
    let (mut kept, mut other) = (first.len(), second.as_ref().map_or(0, Vec::len));
    while kept + other > room {
        let from = if other >= kept { &mut other } else { &mut kept };
        *from -= 1;
    }
    let cut = |ids: &mut Vec<u32>, kept: usize| match side {
        Side::Right => ids.truncate(kept),
        Side::Left => drop(ids.drain(..ids.len() - kept)),
    };
    cut(&mut first, kept);
    if let Some(second) = &mut second {
        cut(second, other);
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
