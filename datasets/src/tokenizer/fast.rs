//! Fast tokenizers of the `tokenizers` library, made from a checkpoint's files.

use std::collections::HashMap;
use std::path::Path;

use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::bert::BertNormalizer;
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{NormalizerWrapper, Precompiled, Replace, Sequence as Normalizers, Strip};
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::processors::bert::BertProcessing;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::utils::truncation::{TruncationParams, truncate_encodings};
use tokenizers::{AddedToken, PostProcessor, Tokenizer};

use super::charsmap::Charsmap;
use super::config::Config;
use super::spm::SpmModel;
use super::{Encoding, SPECIAL, corrupt};
use crate::{Error, Result};

/// `tokenizer.json`; truncation and padding stored in it are ignored: how long a row may be is part of a run, and how it
/// is padded is the matter of [`crate::batch`]. Gives the padding token stored there, too.
pub fn from_json(path: &Path, bytes: &[u8]) -> Result<(Tokenizer, Option<String>)> {
    let broken = |e: tokenizers::Error| corrupt(path, "a tokenizer", e.to_string());
    let mut inner = Tokenizer::from_bytes(bytes).map_err(broken)?;
    let pad = inner.get_padding().map(|padding| padding.pad_token.clone());
    inner.with_padding(None);
    inner.with_truncation(None).map_err(broken)?;
    Ok((inner, pad))
}

/// `vocab.txt` as a BERT WordPiece vocabulary.
pub fn from_wordpiece(path: &Path, bytes: &[u8], config: &Config) -> Result<Tokenizer> {
    let corrupt = |detail: String| corrupt(path, "a WordPiece vocabulary", detail);
    let vocabulary = WordPiece::read_bytes(bytes).map_err(|e| corrupt(e.to_string()))?;
    let id =
        |token: &str| vocabulary.get(token).copied().ok_or_else(|| corrupt(format!("the token {token} is not in it")));
    id("[UNK]")?;
    let processing = BertProcessing::new(("[SEP]".into(), id("[SEP]")?), ("[CLS]".into(), id("[CLS]")?));
    let model = WordPiece::builder().vocab(vocabulary).build().map_err(|e| corrupt(e.to_string()))?;
    let mut inner = Tokenizer::new(model);
    let normalizer =
        BertNormalizer::new(true, config.tokenize_chinese_chars, config.strip_accents, config.do_lower_case);
    inner.with_normalizer(Some(normalizer)).map_err(|e| corrupt(e.to_string()))?;
    inner.with_pre_tokenizer(Some(BertPreTokenizer));
    inner.with_post_processor(Some(processing));
    let special = SPECIAL.map(|token| AddedToken::from(token, true));
    add_special(&mut inner, special.into()).map_err(|e| corrupt(e.to_string()))?;
    Ok(inner)
}

/// `vocab.json` and `merges.txt` as RoBERTa's byte-level BPE.
pub fn from_bpe(path: &Path, vocabulary: &[u8], merges: &[u8]) -> Result<Tokenizer> {
    let corrupt = |detail: String| corrupt(path, "a byte-level BPE vocabulary", detail);
    let vocabulary: HashMap<String, u32> = serde_json::from_slice(vocabulary).map_err(|e| corrupt(e.to_string()))?;
    let id =
        |token: &str| vocabulary.get(token).copied().ok_or_else(|| corrupt(format!("the token {token} is not in it")));
    let processing = RobertaProcessing::new(("</s>".into(), id("</s>")?), ("<s>".into(), id("<s>")?))
        .trim_offsets(true)
        .add_prefix_space(false);
    let merges = std::str::from_utf8(merges).map_err(|e| corrupt(format!("merges.txt: {e}")))?;
    let pair = |(number, line): (usize, &str)| match line.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok((left.to_string(), right.to_string())),
        _ => Err(corrupt(format!("merges.txt, line {}: expected two pieces, got {line:?}", number + 1))),
    };
    let lines = merges.lines().enumerate().filter(|(_, line)| !line.starts_with("#version") && !line.is_empty());
    let merges = lines.map(pair).collect::<Result<Vec<_>>>()?;
    let vocabulary: tokenizers::models::bpe::Vocab = vocabulary.into_iter().collect();
    let model = BPE::builder().vocab_and_merges(vocabulary, merges).build().map_err(|e| corrupt(e.to_string()))?;
    let mut inner = Tokenizer::new(model);
    inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    inner.with_post_processor(Some(processing));
    let special = ["<s>", "<pad>", "</s>", "<unk>"].map(|token| AddedToken::from(token, true));
    let mask = AddedToken::from("<mask>", true).lstrip(true);
    add_special(&mut inner, special.into_iter().chain([mask]).collect()).map_err(|e| corrupt(e.to_string()))?;
    Ok(inner)
}

/// A sentencepiece model as transformers 4.57 converts it for DeBERTa: no byte fallback, the normaliser's table applied
/// grapheme by grapheme.
pub fn from_spm(path: &Path, model: &SpmModel, ids: &[(&'static str, u32)]) -> Result<Tokenizer> {
    let corrupt = |detail: String| corrupt(path, "a sentencepiece model", detail);
    let broken = |e: tokenizers::Error| corrupt(e.to_string());
    let vocabulary = model.pieces.iter().map(|piece| (piece.text.clone(), f64::from(piece.score))).collect();
    let unigram = Unigram::from(vocabulary, Some(model.unk_id as usize), false).map_err(broken)?;
    let mut inner = Tokenizer::new(unigram);
    let mut steps: Vec<NormalizerWrapper> = vec![Strip::new(true, true).into()];
    if !model.charsmap.is_empty() {
        // The library reads the table unchecked.
        Charsmap::parse(&model.charsmap).map_err(corrupt)?;
        let table = Precompiled::from(&model.charsmap).map_err(|e| corrupt(e.to_string()))?;
        steps.push(table.into());
    }
    steps.push(Replace::new(ReplacePattern::Regex(" {2,}".into()), " ").map_err(broken)?.into());
    inner.with_normalizer(Some(Normalizers::new(steps))).map_err(broken)?;
    inner.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::Always, true)));
    let special = SPECIAL.map(|token| AddedToken::from(token, true).normalized(token == "[UNK]"));
    inner.add_special_tokens(special).map_err(broken)?;
    let processing = TemplateProcessing::builder()
        .try_single("[CLS]:0 $A:0 [SEP]:0")
        .and_then(|builder| builder.try_pair("[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1"))
        .map_err(corrupt)?
        .special_tokens(ids.to_vec())
        .build()
        .map_err(|e| corrupt(e.to_string()))?;
    inner.with_post_processor(Some(processing));
    Ok(inner)
}

/// Only tokens the vocabulary holds: a new one would get an id that no embedding has.
fn add_special(inner: &mut Tokenizer, special: Vec<AddedToken>) -> tokenizers::Result<()> {
    let known: Vec<_> = special.into_iter().filter(|token| inner.token_to_id(&token.content).is_some()).collect();
    inner.add_special_tokens(known)?;
    Ok(())
}

/// Ids of a row. A pair that is too long loses tokens by the fast tokenizer's `longest_first`; an empty second text
/// counts as none, as there.
pub fn encode(inner: &Tokenizer, first: &str, second: Option<&str>, max_length: usize) -> Result<Encoding> {
    let second = second.filter(|text| !text.is_empty());
    let special = inner.get_post_processor().map_or(0, |p| p.added_tokens(second.is_some()));
    let room = super::room(max_length, special)?;
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
    let limit = TruncationParams { max_length: room, ..TruncationParams::default() };
    let (head, pair) = truncate_encodings(plain(first)?, pair, &limit).map_err(fail)?;
    let encoding = inner.post_process(head, pair, true).map_err(fail)?;
    Ok(Encoding {
        ids: encoding.get_ids().to_vec(),
        type_ids: encoding.get_type_ids().iter().map(|&id| u8::from(id != 0)).collect(),
    })
}
