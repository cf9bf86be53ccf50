//! Predictions of a set of rows, and their scores.

use datasets::Task;
use datasets::batch::Batch;
use datasets::metrics::largest;
use datasets::tokenizer::TokenizedExample;
use encoders::Attach;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::train::classifier::SequenceClassifier;
use crate::train::loader::{BATCHES_AHEAD, Collator, DeviceBatch, MOST_ROWS};

/// Fewest rows predicted at a time where padding is computed: without gradients there is room.
const PREDICTED_ROWS: usize = 64;
/// Most places of a batch where padding is left out, unless a row has more: a GPU is busy with so many, and they take less memory than
/// the rows of a training step.
const PREDICTED_PLACES: usize = 32_768;

/// Predictions, row by row.
pub struct Predictions {
    /// The class with the largest logit, or the score.
    pub values: Vec<f64>,
    /// All logits of each row.
    pub logits: Vec<Vec<f64>>,
    /// Mean task loss.
    pub loss: f64,
}

/// Predicts every row, at least `batch_size` at a time where padding is computed. Rows are batched by length and given back in their
/// own order.
///
/// # Errors
/// A failure on the device.
pub fn predict(
    classifier: &SequenceClassifier,
    collator: &Collator,
    (head, attach): (&[Tensor], &dyn Attach),
    rows: &[TokenizedExample],
    batch_size: usize,
) -> Result<Predictions> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&i| rows[i].encoding.ids.len());
    let collator = collator.of_layers(classifier.packs(attach, None));
    let sizes = match collator.packs() {
        true => sizes_by_places(&order.iter().map(|&row| rows[row].encoding.ids.len()).collect::<Vec<_>>()),
        false => order.chunks(batch_size.max(PREDICTED_ROWS)).map(<[usize]>::len).collect(),
    };
    let batches = parts_of(&order, &sizes).flat_map(|part| collator.batches(rows, part, part.len()));
    let batches: Vec<Batch> = batches.collect();
    let made: Vec<(Tensor, Tensor)> = tch::no_grad(|| {
        let one = |batch: DeviceBatch| {
            let logits = classifier.logits(&batch.tokens, head, attach, None);
            let loss = classifier.loss(&logits, &batch.labels).sum(None::<Kind>);
            (logits, loss)
        };
        // Nothing is read back before everything is queued.
        batches.chunks(BATCHES_AHEAD).flat_map(|batches| collator.upload(batches)).map(one).collect()
    });
    let (mut values, mut logits) = (vec![f64::NAN; rows.len()], vec![Vec::new(); rows.len()]);
    let mut loss = 0.0;
    for ((batch_logits, batch_loss), places) in made.iter().zip(parts_of(&order, &sizes)) {
        loss += batch_loss.double_value(&[]);
        let batch_logits = Vec::<Vec<f64>>::try_from(batch_logits.to_kind(Kind::Double))?;
        for (&place, row) in places.iter().zip(batch_logits) {
            values[place] = if classifier.is_regression() { row[0] } else { largest(&row) };
            logits[place] = row;
        }
    }
    Ok(Predictions { values, logits, loss: loss / rows.len().max(1) as f64 })
}

/// Rows of each batch, of rows of rising lengths: as many as have [`PREDICTED_PLACES`] with padding up to the longest, and at least one.
fn sizes_by_places(lengths: &[usize]) -> Vec<usize> {
    let mut sizes = Vec::new();
    for length in lengths {
        match sizes.last_mut() {
            Some(size) if *size < MOST_ROWS && (*size + 1) * length <= PREDICTED_PLACES => *size += 1,
            _ => sizes.push(1),
        }
    }
    sizes
}

/// Consecutive parts of so many.
fn parts_of<'a, T>(mut all: &'a [T], sizes: &'a [usize]) -> impl Iterator<Item = &'a [T]> {
    sizes.iter().map(move |&size| {
        let (part, rest) = all.split_at(size);
        all = rest;
        part
    })
}

/// Every metric of the task by its name.
///
/// # Errors
/// Predictions that have no score.
pub fn scores(task: &Task, rows: &[TokenizedExample], predictions: &[f64]) -> Result<Vec<(String, f64)>> {
    let labels: Vec<f64> = rows.iter().map(|row| row.label).collect();
    task.scores(&labels, predictions).map_err(|e| Error::Diverged(e.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn batches_hold_every_row_once_and_few_places(mut lengths in prop::collection::vec(1usize..600, 0..3_000)) {
            lengths.sort_unstable();
            let sizes = sizes_by_places(&lengths);
            let parts: Vec<&[usize]> = parts_of(&lengths, &sizes).collect();
            prop_assert_eq!(&parts.concat(), &lengths);
            for part in &parts {
                prop_assert!(part.len() * part[part.len() - 1] <= PREDICTED_PLACES);
            }
            for pair in parts.windows(2) {
                prop_assert!((pair[0].len() + 1) * pair[1][0] > PREDICTED_PLACES, "a row more had its place");
            }
        }
    }

    #[test]
    fn short_sets_are_one_batch_and_a_row_that_is_too_long_has_one() {
        assert_eq!(sizes_by_places(&[10; 1_043]), [1_043]);
        assert_eq!(sizes_by_places(&[1; MOST_ROWS + 1]), [MOST_ROWS, 1]);
        assert_eq!(sizes_by_places(&[2, PREDICTED_PLACES + 1]), [1, 1]);
    }
}
