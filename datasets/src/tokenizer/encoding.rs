//! Ids of a row, and laying out a pair of texts.

use crate::error::{Error, Result};
use crate::tokenizer::settings::Side;

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
pub struct TokenizedExample {
    /// Its ids.
    pub encoding: Encoding,
    /// Class id, or the score.
    pub label: f64,
    /// Row in its source file, from 0.
    pub row: usize,
}

/// `[CLS] A [SEP]` or `[CLS] A [SEP] B [SEP]` as the slow tokenizers of transformers do it: token by token the longer
/// text is cut, the second on a tie; an empty second text still has its separator.
pub(crate) fn lay_out(
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
pub(crate) fn room(max_length: usize, special: usize) -> Result<usize> {
    max_length.checked_sub(special).ok_or_else(|| Error::Encode {
        detail: format!("maximum length {max_length} is below the {special} special tokens of a row"),
        help: "Use a larger maximum length".into(),
    })
}
