//! Text to ids, from the tokenizer files of a checkpoint.

mod behaviour;
pub mod charsmap;
mod choice;
mod class;
pub(crate) mod deciding;
pub(crate) mod encoding;
mod fast;
pub(crate) mod files;
mod options;
mod parts;
pub mod sentencepiece;
mod settings;
mod slow;
mod special;
pub mod spm;
mod token;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use self::behaviour::Behaviour;
use self::class::Family;
pub use self::encoding::{Encoding, TokenizedExample};
use self::files::{BPE, CONFIG, JSON, SPM, WORDPIECE, corrupt, read};
pub use self::files::{FILES, OPTION_FILES};
use self::parts::{Engine, json_parts, spm_parts, vocabulary_parts};
use self::settings::{Settings, Side};
use crate::dataset::Example;
use crate::error::{Error, Result, guarded};

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
        let Some(fallback) = deciding::family_of_files(dir) else {
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
                encoding::lay_out(slow.encode(first), second, [*cls, *sep], max_length, self.side)?
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
    pub fn encode_all(&self, examples: &[Example], max_length: usize) -> Result<Vec<TokenizedExample>> {
        let encode = |example: &Example| {
            let encoding = self.encode(&example.first, example.second.as_deref(), max_length)?;
            self.check(&encoding, example.row)?;
            Ok(TokenizedExample { encoding, label: example.label, row: example.row })
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let share = examples.len().div_ceil(workers).max(1);
        let encode_share = |share: &[Example]| share.iter().map(encode).collect::<Result<Vec<_>>>();
        let shares: Vec<Result<Vec<TokenizedExample>>> = std::thread::scope(|scope| {
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
