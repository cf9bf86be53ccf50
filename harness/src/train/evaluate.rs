//! Predictions of a set of rows, and their scores.

use datasets::Task;
use datasets::metrics::largest;
use datasets::tokenizer::TokenizedExample;
use encoders::Attach;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::train::classifier::SequenceClassifier;
use crate::train::loader::{BATCHES_AHEAD, Collator, DeviceBatch};

/// Fewest rows predicted at a time: without gradients there is room.
const PREDICTED_ROWS: usize = 64;

/// Predictions, row by row.
pub struct Predictions {
    /// The class with the largest logit, or the score.
    pub values: Vec<f64>,
    /// All logits of each row.
    pub logits: Vec<Vec<f64>>,
    /// Mean task loss.
    pub loss: f64,
}

/// Predicts every row, at least `batch_size` at a time. Rows are batched by length and given back in their own order.
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
    let size = batch_size.max(PREDICTED_ROWS);
    let batches = collator.batches(rows, &order, size);
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
    for ((batch_logits, batch_loss), places) in made.iter().zip(order.chunks(size)) {
        loss += batch_loss.double_value(&[]);
        let batch_logits = Vec::<Vec<f64>>::try_from(batch_logits.to_kind(Kind::Double))?;
        for (&place, row) in places.iter().zip(batch_logits) {
            values[place] = if classifier.is_regression() { row[0] } else { largest(&row) };
            logits[place] = row;
        }
    }
    Ok(Predictions { values, logits, loss: loss / rows.len().max(1) as f64 })
}

/// Every metric of the task by its name.
///
/// # Errors
/// Predictions that have no score.
pub fn scores(task: &Task, rows: &[TokenizedExample], predictions: &[f64]) -> Result<Vec<(String, f64)>> {
    let labels: Vec<f64> = rows.iter().map(|row| row.label).collect();
    task.scores(&labels, predictions).map_err(|e| Error::Diverged(e.to_string()))
}
