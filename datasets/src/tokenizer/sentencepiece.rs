//! Sentencepiece's own unigram tokenisation: what the slow tokenizer of transformers gives, which the released SoRA code
//! used (spec §4.2). The steps and the order of float32 operations are those of the C++ library (`normalizer.cc`,
//! `unigram_model.cc`), since ties between segmentations are decided by rounding.

use yada::DoubleArray;
use yada::builder::DoubleArrayBuilder;

use crate::tokenizer::charsmap::Charsmap;
use crate::tokenizer::spm::{PieceKind, SpmModel};

/// Sign for a space in pieces.
const SPACE: &str = "▁";
/// How much worse than the worst piece an unknown character is.
const UNKNOWN_PENALTY: f32 = 10.0;

/// A unigram model ready for use.
pub struct SentencePiece {
    model: SpmModel,
    charsmap: Charsmap,
    trie: DoubleArray<Vec<u8>>,
    unknown_score: f32,
    /// Id of each byte's piece, where there is byte fallback.
    bytes: Option<Vec<u32>>,
}

/// The best segmentation that ends at one place.
#[derive(Clone, Copy)]
struct Best {
    score: f32,
    id: u32,
    start: Option<usize>,
}

impl SentencePiece {
    /// Prepares the model.
    ///
    /// # Errors
    /// A damaged table of the normaliser, a piece that is there twice.
    pub fn new(model: SpmModel) -> Result<Self, String> {
        let charsmap = Charsmap::parse(&model.charsmap)?;
        let in_text = model.pieces.iter().zip(0u32..).filter(|(piece, _)| piece.kind == PieceKind::Normal);
        let mut keys: Vec<(&str, u32)> = in_text.clone().map(|(piece, id)| (piece.text.as_str(), id)).collect();
        keys.sort_unstable();
        if let Some(twice) = keys.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("the piece {:?} is there twice", twice[0].0));
        }
        let trie = DoubleArrayBuilder::build(&keys).ok_or("its pieces do not fit a trie")?;
        let least = in_text.map(|(piece, _)| piece.score).fold(f32::INFINITY, f32::min);
        let byte_ids = model.pieces.iter().zip(0u32..).filter(|(piece, _)| piece.kind == PieceKind::Byte);
        let bytes = model.byte_fallback.then(|| byte_ids.map(|(_, id)| id).collect());
        let unknown_score = least - UNKNOWN_PENALTY;
        Ok(SentencePiece { charsmap, trie: DoubleArray::new(trie), unknown_score, bytes, model })
    }

    /// Adds the ids of a text.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let normalized = self.normalize(text);
        let mut was_unknown = false;
        for (piece, id) in self.segment(&normalized) {
            let is_unknown = id == self.model.unk_id;
            match &self.bytes {
                Some(bytes) if is_unknown => ids.extend(piece.bytes().map(|byte| bytes[usize::from(byte)])),
                // Unknown characters in a row are one unknown piece.
                _ if is_unknown && was_unknown => {}
                _ => ids.push(id),
            }
            was_unknown = is_unknown;
        }
    }

    /// The longest replacement at the start of `text`, or else its first character as it is.
    fn normalized_prefix<'a>(&'a self, text: &'a str) -> (&'a str, usize) {
        match self.charsmap.longest(text) {
            Some((length, replacement)) => (replacement, length),
            None => {
                let length = text.chars().next().map_or(0, char::len_utf8);
                (&text[..length], length)
            }
        }
    }

    fn normalize(&self, text: &str) -> String {
        let space = if self.model.escape_whitespaces { SPACE } else { " " };
        let trims = self.model.remove_extra_whitespaces;
        let mut rest = text;
        while trims && !rest.is_empty() {
            let (prefix, length) = self.normalized_prefix(rest);
            if prefix != " " {
                break;
            }
            rest = &rest[length..];
        }
        let mut out = String::with_capacity(text.len() + 8);
        if rest.is_empty() {
            return out;
        }
        if self.model.add_dummy_prefix {
            out.push_str(space);
        }
        let mut after_space = trims;
        while !rest.is_empty() {
            let (mut piece, length) = self.normalized_prefix(rest);
            if after_space {
                piece = piece.trim_start_matches(' ');
            }
            if !piece.is_empty() {
                for (index, part) in piece.split(' ').enumerate() {
                    if index > 0 {
                        out.push_str(space);
                    }
                    out.push_str(part);
                }
                after_space = piece.ends_with(' ');
            }
            after_space &= trims;
            rest = &rest[length..];
        }
        if trims {
            out.truncate(out.trim_end_matches(space).len());
        }
        out
    }

    /// The best segmentation: pieces with their ids.
    fn segment<'a>(&self, text: &'a str) -> Vec<(&'a str, u32)> {
        let mut best = vec![Best { score: 0.0, id: 0, start: None }; text.len() + 1];
        let mut start = 0;
        while let Some(character) = text[start..].chars().next() {
            let length = character.len_utf8();
            let before = best[start].score;
            let mut has_single = false;
            for (id, end) in self.trie.common_prefix_search(&text[start..]) {
                let score = self.model.pieces[id as usize].score + before;
                improve(&mut best[start + end], Best { score, id, start: Some(start) });
                has_single |= end == length;
            }
            if !has_single {
                let score = self.unknown_score + before;
                improve(&mut best[start + length], Best { score, id: self.model.unk_id, start: Some(start) });
            }
            start += length;
        }
        let mut pieces = Vec::new();
        let mut end = text.len();
        while let Some(start) = best[end].start {
            pieces.push((&text[start..end], best[end].id));
            end = start;
        }
        pieces.reverse();
        pieces
    }
}

fn improve(known: &mut Best, candidate: Best) {
    if known.start.is_none() || candidate.score > known.score {
        *known = candidate;
    }
}
