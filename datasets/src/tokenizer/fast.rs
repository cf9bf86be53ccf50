//! Fast tokenizers of the `tokenizers` library, made from a checkpoint's files.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::utils::Lowercase;
use tokenizers::normalizers::{NormalizerWrapper, Precompiled, Replace, Sequence as Normalizers, Strip};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::utils::truncation::{TruncationParams, truncate_encodings};
use tokenizers::{
    AddedToken, ModelWrapper, NormalizedString, Normalizer, PaddingDirection, PostProcessor, PreTokenizerWrapper,
    SplitDelimiterBehavior, Tokenizer, TruncationDirection,
};

use crate::error::{Error, Result};
use crate::tokenizer::charsmap::Charsmap;
use crate::tokenizer::class::Family;
use crate::tokenizer::encoding::{Encoding, room};
use crate::tokenizer::files::{CONFIG, corrupt};
use crate::tokenizer::settings::{Settings, Side};
use crate::tokenizer::spm::{PieceKind, SpmModel};
use crate::tokenizer::token::Token;

/// Settings that `tokenizer.json` stores besides the tokenizer.
pub struct Stored {
    /// The padding token.
    pub pad: Option<String>,
    /// Whether rows are padded on the left.
    pub pads_left: bool,
    /// Where rows are cut.
    pub truncation: Option<Side>,
}

/// `tokenizer.json`; truncation and padding stored in it are ignored but for their sides: how long a row may be is part of
/// a run, and how it is padded is the matter of [`crate::batch`].
pub fn from_json(path: &Path, bytes: &[u8]) -> Result<(Tokenizer, Stored)> {
    let broken = |e: tokenizers::Error| corrupt(path, "a tokenizer", e.to_string());
    let mut inner = Tokenizer::from_bytes(bytes).map_err(broken)?;
    let stored = Stored {
        pad: inner.get_padding().map(|padding| padding.pad_token.clone()),
        pads_left: inner.get_padding().is_some_and(|padding| matches!(padding.direction, PaddingDirection::Left)),
        truncation: inner.get_truncation().map(|truncation| match truncation.direction {
            TruncationDirection::Left => Side::Left,
            TruncationDirection::Right => Side::Right,
        }),
    };
    inner.with_padding(None);
    inner.with_truncation(None).map_err(broken)?;
    if let ModelWrapper::BPE(bpe) = inner.get_model()
        && bpe.dropout.is_some_and(|dropout| dropout > 0.0)
    {
        return Err(corrupt(path, "a tokenizer", "dropout gives other ids at every reading; set it to null".into()));
    }
    Ok((inner, stored))
}

/// Changes a tokenizer that was read from `tokenizer.json` as the class's constructor does.
pub fn apply(inner: &mut Tokenizer, settings: &Settings) -> std::result::Result<(), String> {
    add_tokens(inner, settings)?;
    if let Some(PreTokenizerWrapper::ByteLevel(bytes)) = inner.get_pre_tokenizer() {
        let bytes = *bytes;
        if bytes.add_prefix_space != settings.add_prefix_space {
            inner.with_pre_tokenizer(Some(bytes.add_prefix_space(settings.add_prefix_space)));
        }
    }
    match (settings.class.family, inner.get_normalizer()) {
        (Family::Bert, Some(NormalizerWrapper::BertNormalizer(stored))) => {
            let stored = *stored;
            let wanted = BertNormalizer::new(
                stored.clean_text,
                settings.tokenize_chinese_chars,
                settings.strip_accents,
                settings.do_lower_case,
            );
            same_tokens(inner, &stored, &wanted)?;
            inner.with_normalizer(Some(wanted)).map_err(|e| e.to_string())?;
        }
        (Family::Bert, None) => return Err("it has no normaliser, which BertTokenizer cannot do without".into()),
        (Family::Deberta, stored) => agrees(stored, inner.get_pre_tokenizer(), settings)?,
        _ => {}
    }
    Ok(())
}

/// transformers 4 looks for added tokens as the stored normaliser changes them, 5 as the new one does.
fn same_tokens(inner: &Tokenizer, stored: &BertNormalizer, wanted: &BertNormalizer) -> std::result::Result<(), String> {
    let normalized = |normalizer: &BertNormalizer, content: &str| {
        let mut text = NormalizedString::from(content);
        normalizer.normalize(&mut text).map(|()| text.get().to_string()).map_err(|e| e.to_string())
    };
    for token in inner.get_added_tokens_decoder().values().filter(|token| token.normalized) {
        if normalized(stored, &token.content)? != normalized(wanted, &token.content)? {
            return Err(format!(
                "the added token {:?} is to be normalised, but {CONFIG} asks for another normaliser than the one stored here",
                token.content
            ));
        }
    }
    Ok(())
}

/// transformers 4 takes what is stored, 5 what the options say.
fn agrees(
    normalizer: Option<&NormalizerWrapper>,
    pre_tokenizer: Option<&PreTokenizerWrapper>,
    settings: &Settings,
) -> std::result::Result<(), String> {
    let has = |stored: serde_json::Result<String>, part: &str| stored.is_ok_and(|text| text.contains(part));
    let lowers = has(serde_json::to_string(&normalizer), "\"type\":\"Lowercase\"");
    let splits = has(serde_json::to_string(&pre_tokenizer), "\"type\":\"Punctuation\"");
    let differs = |name, value| Err(format!("it was saved with another value than {name} = {value} of {CONFIG}"));
    match settings {
        Settings { do_lower_case, .. } if *do_lower_case != lowers => differs("do_lower_case", do_lower_case),
        Settings { split_by_punct, .. } if *split_by_punct != splits => differs("split_by_punct", split_by_punct),
        _ => Ok(()),
    }
}

/// Adds the files' tokens and then the special ones, as transformers' fast tokenizers do.
fn add_tokens(inner: &mut Tokenizer, settings: &Settings) -> std::result::Result<(), String> {
    let present = inner.get_added_tokens_decoder();
    let is_present = |token: &AddedToken| present.values().any(|known| known == token);
    let mut open: Vec<AddedToken> = settings.added.values().filter(|token| !is_present(token)).cloned().collect();
    let texts: HashSet<String> = present.values().chain(&open).map(|token| token.content.clone()).collect();
    let listed = open.len();
    for token in settings.unique_special() {
        match token {
            Token::Text(content) if texts.contains(content) => {}
            Token::Text(content) => open.push(AddedToken::from(content.as_str(), true)),
            Token::Added(token) if open[..listed].contains(token) => {}
            Token::Added(token) => open.push(token.clone()),
        }
    }
    let special: HashSet<&str> = settings.unique_special().into_iter().map(Token::content).collect();
    for token in &mut open {
        token.special |= special.contains(token.content.as_str());
    }
    inner.add_tokens(as_matched(present.values(), open)).map_err(|e| e.to_string())?;
    inner.set_encode_special_tokens(settings.split_special_tokens);
    Ok(())
}

/// Tokens as they are looked for: one that is there already takes the new flags, but for `normalized`. A special one keeps
/// what it had, any other is looked for in both ways.
fn as_matched<'a>(present: impl Iterator<Item = &'a AddedToken>, open: Vec<AddedToken>) -> Vec<AddedToken> {
    let mut known: HashMap<String, AddedToken> = present.map(|token| (token.content.clone(), token.clone())).collect();
    let merge = |mut token: AddedToken| {
        if let Some(old) = known.get(&token.content) {
            token.normalized = old.normalized || (token.normalized && !old.special);
            token.special |= old.special;
        }
        known.insert(token.content.clone(), token.clone());
        token
    };
    open.into_iter().map(merge).collect()
}

/// `vocab.txt` as a BERT WordPiece vocabulary.
pub fn from_wordpiece(path: &Path, bytes: &[u8], settings: &Settings) -> Result<Tokenizer> {
    let corrupt = |detail: String| corrupt(path, "a WordPiece vocabulary", detail);
    let vocabulary = wordpieces(bytes).map_err(corrupt)?;
    let named = |attribute| special(settings, &vocabulary, attribute).map_err(corrupt);
    let (unk, sep, cls) = (named("unk_token")?, named("sep_token")?, named("cls_token")?);
    if !vocabulary.contains_key(&unk.0) {
        return Err(corrupt(format!("the token {} is not in it", unk.0)));
    }
    let model = WordPiece::builder().unk_token(unk.0).vocab(vocabulary).build().map_err(|e| corrupt(e.to_string()))?;
    let mut inner = Tokenizer::new(model);
    let normalizer =
        BertNormalizer::new(true, settings.tokenize_chinese_chars, settings.strip_accents, settings.do_lower_case);
    inner.with_normalizer(Some(normalizer)).map_err(|e| corrupt(e.to_string()))?;
    inner.with_pre_tokenizer(Some(BertPreTokenizer));
    inner.with_post_processor(Some(BertProcessing::new(sep, cls)));
    add_tokens(&mut inner, settings).map_err(corrupt)?;
    Ok(inner)
}

/// A token a line, as Python reads lines; of a token that is there twice the later line counts.
fn wordpieces(bytes: &[u8]) -> std::result::Result<Vocab, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.split('\n').map(str::to_string).zip(0..).collect())
}

/// A special token's text and id: the slow tokenizer's, which decides what stands around a row.
fn special(settings: &Settings, vocabulary: &Vocab, attribute: &str) -> std::result::Result<(String, u32), String> {
    let content = settings.content(attribute).ok_or_else(|| format!("{attribute} is null"))?;
    let listed = settings.added.iter().find(|(_, token)| token.content == content).map(|(id, _)| *id);
    let id = listed.or_else(|| vocabulary.get(content).copied());
    Ok((content.to_string(), id.ok_or_else(|| format!("the token {content} is not in it"))?))
}

/// `vocab.json` and `merges.txt` as RoBERTa's byte-level BPE.
pub fn from_bpe(path: &Path, vocabulary: &[u8], merges: &[u8], settings: &Settings) -> Result<Tokenizer> {
    let corrupt = |detail: String| corrupt(path, "a byte-level BPE vocabulary", detail);
    let vocabulary: HashMap<String, u32> = serde_json::from_slice(vocabulary).map_err(|e| corrupt(e.to_string()))?;
    let vocabulary: Vocab = vocabulary.into_iter().collect();
    let named = |attribute| special(settings, &vocabulary, attribute).map_err(corrupt);
    let processing = RobertaProcessing::new(named("sep_token")?, named("cls_token")?)
        .trim_offsets(true)
        .add_prefix_space(settings.add_prefix_space);
    let merges = pairs(merges).map_err(corrupt)?;
    let model = BPE::builder().vocab_and_merges(vocabulary, merges).build().map_err(|e| corrupt(e.to_string()))?;
    let mut inner = Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(ByteLevel::new(settings.add_prefix_space, true, true)));
    inner.with_post_processor(Some(processing));
    add_tokens(&mut inner, settings).map_err(corrupt)?;
    Ok(inner)
}

/// The pairs of `merges.txt` as transformers reads them: the first line is left out whatever it holds, and so is what
/// stands after the last line break.
fn pairs(merges: &[u8]) -> std::result::Result<Vec<(String, String)>, String> {
    let text = std::str::from_utf8(merges).map_err(|e| format!("merges.txt: {e}"))?;
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.split('\n').collect();
    if let [.., last] = lines[..]
        && !last.trim().is_empty()
    {
        // transformers drops this merge without a word.
        return Err(
            "merges.txt: its last line has no line break: the file was cut, or was not written by a tokenizer".into()
        );
    }
    let mut seen = HashSet::new();
    let mut pairs = Vec::new();
    for (number, line) in lines.iter().enumerate().take(lines.len() - 1) {
        let pair = match line.split_whitespace().collect::<Vec<_>>()[..] {
            _ if number == 0 && line.starts_with('#') => continue,
            [left, right] if number > 0 => (left.to_string(), right.to_string()),
            _ => return Err(format!("merges.txt, line {}: expected {}, got {line:?}", number + 1, expected(number))),
        };
        if seen.insert(pair.clone()) {
            pairs.push(pair);
        }
    }
    Ok(pairs)
}

fn expected(line: usize) -> &'static str {
    if line == 0 { "a line like #version: 0.2, which is left out" } else { "two pieces" }
}

/// A sentencepiece model as transformers 4.57 converts it for DeBERTa: no byte fallback, the normaliser's table applied
/// grapheme by grapheme. `around` are the ids of [CLS] and [SEP].
pub fn from_spm(path: &Path, model: &SpmModel, around: [u32; 2], settings: &Settings) -> Result<Tokenizer> {
    let corrupt = |detail: String| corrupt(path, "a sentencepiece model", detail);
    let broken = |e: tokenizers::Error| corrupt(e.to_string());
    let pieces = model.pieces.iter().map(|piece| (piece.text.clone(), f64::from(piece.score))).collect();
    let unigram = Unigram::from(pieces, Some(model.unk_id as usize), false).map_err(broken)?;
    let mut inner = Tokenizer::new(unigram);
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if settings.do_lower_case {
        steps.push(Lowercase.into());
    }
    steps.push(Strip::new(true, true).into());
    if !model.charsmap.is_empty() {
        // The library reads the table unchecked.
        Charsmap::parse(&model.charsmap).map_err(corrupt)?;
        let table = Precompiled::from(&model.charsmap).map_err(|e| corrupt(e.to_string()))?;
        steps.push(table.into());
    }
    steps.push(Replace::new(ReplacePattern::Regex(" {2,}".into()), " ").map_err(broken)?.into());
    inner.with_normalizer(Some(Normalizers::new(steps))).map_err(broken)?;
    let spaces = Metaspace::new('▁', PrependScheme::Always, true);
    if settings.split_by_punct {
        let punctuation = Punctuation::new(SplitDelimiterBehavior::Isolated);
        inner.with_pre_tokenizer(Some(PreTokenizers::new(vec![punctuation.into(), spaces.into()])));
    } else {
        inner.with_pre_tokenizer(Some(spaces));
    }
    let control = model.pieces.iter().filter(|piece| piece.kind == PieceKind::Control);
    let control = control.map(|piece| AddedToken::from(piece.text.as_str(), true));
    inner.add_tokens(control).map_err(broken)?;
    // The slow tokenizer, from which it is converted, gives the unknown token flags of its own.
    let mut settings = settings.clone();
    for (name, token) in &mut settings.special {
        if let (true, Token::Text(content)) = (name == "unk_token", &token) {
            *token = Token::Added(AddedToken::from(content.as_str(), true).normalized(true));
        }
    }
    add_tokens(&mut inner, &settings).map_err(corrupt)?;
    let processing = TemplateProcessing::builder()
        .try_single("[CLS]:0 $A:0 [SEP]:0")
        .and_then(|builder| builder.try_pair("[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"))
        .map_err(corrupt)?
        .special_tokens(vec![("[CLS]", around[0]), ("[SEP]", around[1])])
        .build()
        .map_err(|e| corrupt(e.to_string()))?;
    inner.with_post_processor(Some(processing));
    Ok(inner)
}

/// Everything that decides ids besides the vocabulary, as one text.
pub fn effect(inner: &Tokenizer) -> serde_json::Result<String> {
    let mut added: Vec<(u32, AddedToken)> = inner.get_added_tokens_decoder().into_iter().collect();
    added.sort_unstable_by_key(|(id, _)| *id);
    let unknown = match inner.get_model() {
        ModelWrapper::WordPiece(model) => Some(&model.unk_token),
        _ => None,
    };
    serde_json::to_string(&(
        added,
        unknown,
        inner.get_normalizer(),
        inner.get_pre_tokenizer(),
        inner.get_post_processor(),
        inner.get_encode_special_tokens(),
    ))
}

/// Ids of a row. A pair that is too long loses tokens by the fast tokenizer's `longest_first`; an empty second text
/// counts as none, as there.
pub fn encode(inner: &Tokenizer, first: &str, second: Option<&str>, max_length: usize, side: Side) -> Result<Encoding> {
    let second = second.filter(|text| !text.is_empty());
    let special = inner.get_post_processor().map_or(0, |p| p.added_tokens(second.is_some()));
    let room = room(max_length, special)?;
    let fail = |e: tokenizers::Error| Error::Encode { detail: e.to_string(), help: String::new() };
    let plain = |text: &str| inner.encode(text, false).map_err(fail);
    let pair = match second {
        None => None,
        Some(text) => {
            let mut encoding = plain(text)?;
            let length = encoding.len();
            encoding.set_type_ids(vec![1; length]);
            Some(encoding)
        }
    };
    let direction = match side {
        Side::Left => TruncationDirection::Left,
        Side::Right => TruncationDirection::Right,
    };
    let limit = TruncationParams { max_length: room, direction, ..TruncationParams::default() };
    let (head, pair) = truncate_encodings(plain(first)?, pair, &limit).map_err(fail)?;
    let encoding = inner.post_process(head, pair, true).map_err(fail)?;
    Ok(Encoding {
        ids: encoding.get_ids().to_vec(),
        type_ids: encoding.get_type_ids().iter().map(|&id| u8::from(id != 0)).collect(),
    })
}
