//! Rows of ids laid out as rectangles, padded at the end.

use serde::{Deserialize, Serialize};

use crate::tokenizer::encoding::TokenizedExample;

/// How long the rows of a batch are. Part of a run's identity.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// The batch's longest row, rounded up to a multiple of this many tokens, never above the maximum length.
    Bucket(usize),
    /// Always the maximum length, as published timings were taken.
    MaxLength,
}

/// One batch, row-major: `ids`, `mask` and `type_ids` have `rows * length` entries, the others `rows`.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Tokens a row, padding included.
    pub length: usize,
    /// Token ids, the padding id at the end of short rows.
    pub ids: Vec<i64>,
    /// 1 for a token, 0 for padding.
    pub mask: Vec<i64>,
    /// Segment ids, 0 for padding.
    pub type_ids: Vec<i64>,
    /// Class ids or scores.
    pub labels: Vec<f64>,
    /// [`TokenizedExample::row`] of each row.
    pub source_rows: Vec<usize>,
    /// Tokens that are not padding.
    pub tokens: u64,
}

impl Batch {
    /// Adds the ids, the mask and the segment ids to the end of `tables`, every row padded to `length`, which is no shorter.
    pub fn append_to(&self, tables: &mut [Vec<i64>; 3], length: usize, pad_id: u32) {
        let values = [(&self.ids, i64::from(pad_id)), (&self.mask, 0), (&self.type_ids, 0)];
        for ((values, padding), table) in values.into_iter().zip(tables) {
            for row in values.chunks(self.length.max(1)) {
                table.extend_from_slice(row);
                table.resize(table.len() + length - row.len(), padding);
            }
        }
    }
}

/// Cuts `order` (positions in `encoded`) into batches of `batch_size` rows; the last may be smaller.
///
/// Rows are never cut: one longer than `max_length` makes its batch that long, so tokenise with the same limit.
pub fn batches(
    encoded: &[TokenizedExample],
    order: &[usize],
    batch_size: usize,
    padding: Padding,
    max_length: usize,
    pad_id: u32,
) -> Vec<Batch> {
    order
        .chunks(batch_size.max(1))
        .map(|chunk| {
            let rows: Vec<&TokenizedExample> = chunk.iter().map(|&position| &encoded[position]).collect();
            lay_out(&rows, padding, max_length, pad_id)
        })
        .collect()
}

/// Batches of several runs as one, run by run, every row as long as the longest.
pub fn stack_batches(batches: Vec<Batch>, pad_id: u32) -> Batch {
    // Most runs are alone, and their batches are what they are.
    let batches = match <[Batch; 1]>::try_from(batches) {
        Ok([alone]) => return alone,
        Err(several) => several,
    };
    let length = batches.iter().map(|batch| batch.length).max().unwrap_or(0);
    let rows = batches.iter().map(|batch| batch.rows).sum();
    let mut tables = [(); 3].map(|()| Vec::with_capacity(rows * length));
    for batch in &batches {
        batch.append_to(&mut tables, length, pad_id);
    }
    let [ids, mask, type_ids] = tables;
    Batch {
        rows,
        length,
        ids,
        mask,
        type_ids,
        labels: batches.iter().flat_map(|batch| batch.labels.iter().copied()).collect(),
        source_rows: batches.iter().flat_map(|batch| batch.source_rows.iter().copied()).collect(),
        tokens: batches.iter().map(|batch| batch.tokens).sum(),
    }
}

fn lay_out(rows: &[&TokenizedExample], padding: Padding, max_length: usize, pad_id: u32) -> Batch {
    let longest = rows.iter().map(|row| row.encoding.ids.len()).max().unwrap_or(0);
    let length = match padding {
        Padding::Bucket(multiple) => longest.next_multiple_of(multiple.max(1)).min(max_length),
        Padding::MaxLength => max_length,
    }
    .max(longest);
    let entries = rows.len() * length;
    let mut batch = Batch {
        rows: rows.len(),
        length,
        ids: Vec::with_capacity(entries),
        mask: Vec::with_capacity(entries),
        type_ids: Vec::with_capacity(entries),
        labels: rows.iter().map(|row| row.label).collect(),
        source_rows: rows.iter().map(|row| row.row).collect(),
        tokens: 0,
    };
    for (index, row) in rows.iter().enumerate() {
        let end = (index + 1) * length;
        batch.ids.extend(row.encoding.ids.iter().map(|&id| i64::from(id)));
        batch.type_ids.extend(row.encoding.type_ids.iter().map(|&id| i64::from(id)));
        batch.tokens += row.encoding.ids.len() as u64;
        batch.mask.resize(batch.ids.len(), 1);
        batch.ids.resize(end, i64::from(pad_id));
        batch.type_ids.resize(end, 0);
        batch.mask.resize(end, 0);
    }
    batch
}
