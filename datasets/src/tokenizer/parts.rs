//! Content of the vocabulary's file: the engine that gives ids, and what the file says besides.

use std::collections::HashMap;
use std::path::Path;

use tokenizers::Model;

use crate::error::{Error, Result};
use crate::tokenizer::class::Family;
use crate::tokenizer::fast;
use crate::tokenizer::files::{CONFIG, corrupt};
use crate::tokenizer::sentencepiece::SentencePiece;
use crate::tokenizer::settings::{Settings, Side};
use crate::tokenizer::slow::{Added, Slow};
use crate::tokenizer::spm::SpmModel;

/// The tokenizer itself.
pub(crate) enum Engine {
    Fast(Box<tokenizers::Tokenizer>),
    Sentencepiece { slow: Box<Slow>, cls: u32, sep: u32 },
}

/// Content of the vocabulary's file.
pub(crate) struct Parts {
    pub engine: Engine,
    pub pad_id: Option<u32>,
    pub vocab_size: usize,
    pub side: Option<Side>,
    /// Whether the file itself asks for padding on the left.
    pub pads_left: bool,
}

impl Parts {
    pub(crate) fn of(engine: Engine, pad_id: Option<u32>, vocab_size: usize) -> Self {
        Parts { engine, pad_id, vocab_size, side: None, pads_left: false }
    }

    /// Everything that decides ids besides the vocabulary, as one text.
    pub(crate) fn effect(&self) -> String {
        let of_engine = match &self.engine {
            Engine::Fast(inner) => fast::effect(inner).unwrap_or_default(),
            Engine::Sentencepiece { slow, cls, sep } => format!("{} {cls} {sep}", slow.effect()),
        };
        format!("{of_engine} {:?}", self.pad_id)
    }
}

/// `tokenizer.json`, changed as `settings` say.
pub(crate) fn json_parts(path: &Path, bytes: &[u8], settings: Option<&Settings>) -> Result<Parts> {
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
pub(crate) fn vocabulary_parts(path: &Path, bytes: &[u8], merges: &[u8], settings: &Settings) -> Result<Parts> {
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
pub(crate) fn spm_parts(path: &Path, bytes: &[u8], settings: &Settings, is_slow: bool) -> Result<Parts> {
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
