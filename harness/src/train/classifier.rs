//! The forward pass of a run: rows as batches, batches as logits, logits as predictions.

use std::rc::Rc;

use datasets::Task;
use datasets::batch::{Batch, Padding, batches, side_by_side};
use datasets::metrics::Metric;
use datasets::tokenizer::Encoded;
use encoders::{Attach, Encoder, Pass, TokenBatch};
use tch::{Device, Kind, Reduction, Tensor};
use torch_ext::ops::dropout::DropoutRng;
use torch_ext::ops::encoder_layer;

use crate::error::{Error, Result};
use crate::load::inputs::Inputs;
use crate::plan::spec::Precision;

/// Fewest rows predicted at a time: without gradients there is room.
const PREDICTED_ROWS: usize = 64;
/// Lines that cost a step on a GPU next to nothing.
const FEWEST_LINES: usize = 128;
/// Batches on the device ahead of the work.
pub const BATCHES_AHEAD: usize = 64;

/// A backbone and how rows reach it.
pub struct Forward {
    /// The backbone.
    pub encoder: Rc<dyn Encoder>,
    /// Whose rows they are.
    pub task: &'static Task,
    /// Where it runs.
    pub device: Device,
    /// How batches are padded.
    pub padding: Padding,
    /// Longest input in tokens.
    pub max_length: usize,
    pad_id: u32,
    /// Whether layers may leave padding out.
    may_pack: bool,
}

/// A batch on the device.
pub struct DeviceBatch {
    tokens: TokenBatch,
    labels: Tensor,
}

/// What was predicted, row by row.
pub struct Predicted {
    /// The class with the largest logit, or the score.
    pub values: Vec<f64>,
    /// All logits of each row.
    pub logits: Vec<Vec<f64>>,
    /// Mean task loss.
    pub loss: f64,
}

/// Rows and length of a batch, and its lines where padding may be left out.
pub type Shape = (Vec<i64>, Option<i64>);

impl DeviceBatch {
    /// What a recorded step must have been recorded for.
    pub fn shape(&self) -> Shape {
        (self.tokens.input_ids.size(), self.tokens.token_capacity)
    }

    fn tensors(&self) -> [&Tensor; 4] {
        [&self.tokens.input_ids, &self.tokens.attention_mask, &self.tokens.token_type_ids, &self.labels]
    }

    /// A copy in memory of its own.
    pub fn copy(&self) -> Self {
        let [input_ids, attention_mask, token_type_ids, labels] = self.tensors().map(Tensor::copy);
        let token_capacity = self.tokens.token_capacity;
        DeviceBatch { tokens: TokenBatch { input_ids, attention_mask, token_type_ids, token_capacity }, labels }
    }

    /// Overwrites this batch with another of the same shape.
    pub fn overwrite(&self, with: &DeviceBatch) {
        for (target, source) in self.tensors().into_iter().zip(with.tensors()) {
            target.shallow_clone().copy_(source);
        }
    }
}

impl Forward {
    /// On the inputs' device, the backbone in the precision's kind.
    ///
    /// # Errors
    /// A backbone that cannot be read again in that kind.
    pub fn new(
        inputs: &Inputs,
        task: &'static Task,
        precision: Precision,
        padding: Padding,
        max_length: usize,
    ) -> Result<Self> {
        let encoder = inputs.encoder_in(precision.kind())?;
        let (device, pad_id) = (inputs.device, inputs.tokenizer.pad_id());
        let has_kernels = encoder.info().can_pack && encoder_layer::is_available(device, precision.kind());
        let may_pack = has_kernels && padding != Padding::MaxLength;
        Ok(Forward { encoder, task, device, padding, max_length, pad_id, may_pack })
    }

    /// Rows laid out in batches, in the given order.
    pub fn layout(&self, rows: &[Encoded], order: &[usize], batch_size: usize) -> Vec<Batch> {
        batches(rows, order, batch_size, self.padding, self.max_length, self.pad_id)
    }

    /// A batch of each run as one.
    pub fn side_by_side(&self, batches: Vec<Batch>) -> Batch {
        side_by_side(batches, self.pad_id)
    }

    /// Lines for a batch's tokens where padding need not be computed, rounded up so that batches share recorded steps. With
    /// [`Padding::MaxLength`] it is computed, as the released scripts do.
    fn lines(&self, batch: &Batch) -> Option<i64> {
        let lines = rounded_up(batch.tokens as usize);
        (self.may_pack && lines < batch.rows * batch.length).then_some(lines as i64)
    }

    /// Shape that a recorded step for this batch must have.
    pub fn shape(&self, batch: &Batch) -> Shape {
        (vec![batch.rows as i64, batch.length as i64], self.lines(batch))
    }

    /// Batches on the device, by one transfer.
    pub fn upload(&self, batches: &[Batch]) -> Vec<DeviceBatch> {
        let tokens = batches.iter().flat_map(|batch| [&batch.ids, &batch.mask, &batch.type_ids]).flatten().copied();
        let tokens = Tensor::from_slice(&tokens.collect::<Vec<i64>>()).to_device(self.device);
        let labels: Vec<f64> = batches.iter().flat_map(|batch| batch.labels.iter().copied()).collect();
        let kind = if self.task.is_regression() { Kind::Float } else { Kind::Int64 };
        let labels = Tensor::from_slice(&labels).to_kind(kind).to_device(self.device);
        let (mut token, mut row) = (0, 0);
        let on_device = |batch: &Batch| {
            let (rows, length) = (batch.rows as i64, batch.length as i64);
            let mut next = || {
                token += rows * length;
                tokens.narrow(0, token - rows * length, rows * length).view([rows, length])
            };
            let tokens = TokenBatch {
                input_ids: next(),
                attention_mask: next(),
                token_type_ids: next(),
                token_capacity: self.lines(batch),
            };
            row += rows;
            DeviceBatch { tokens, labels: labels.narrow(0, row - rows, rows) }
        };
        batches.iter().map(on_device).collect()
    }

    /// Task loss `[]` of every run whose rows the batch holds, in training; the head's tensors in the encoder's order, for
    /// several runs a stack of each.
    pub fn losses(
        &self,
        head: &[Tensor],
        attach: &dyn Attach,
        batch: &DeviceBatch,
        random: &DropoutRng,
    ) -> Vec<Tensor> {
        let logits = self.logits(head, batch, Pass { attach, dropout: Some(random) });
        self.loss_of_rows(&logits, &batch.labels).view([random.runs(), -1]).mean_dim(1, false, None::<Kind>).unbind(0)
    }

    fn logits(&self, head: &[Tensor], batch: &DeviceBatch, pass: Pass) -> Tensor {
        let last = self.encoder.last_hidden_state(&batch.tokens, pass);
        self.encoder.logits(&last, &batch.tokens, head, pass)
    }

    /// Cross-entropy, or squared error for a score (spec §4), of every row, of logits `[rows, outputs]`, float32.
    fn loss_of_rows(&self, logits: &Tensor, labels: &Tensor) -> Tensor {
        if self.task.is_regression() {
            return logits.squeeze_dim(-1).mse_loss(labels, Reduction::None);
        }
        logits.cross_entropy_loss::<&Tensor>(labels, None, Reduction::None, -100, 0.0)
    }

    /// Predicts every row, at least `batch_size` at a time. Rows are batched by length and given back in their own order.
    ///
    /// # Errors
    /// A failure on the device.
    pub fn predict(
        &self,
        head: &[Tensor],
        attach: &dyn Attach,
        rows: &[Encoded],
        batch_size: usize,
    ) -> Result<Predicted> {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&i| rows[i].encoding.ids.len());
        let size = batch_size.max(PREDICTED_ROWS);
        let layout = self.layout(rows, &order, size);
        let made: Vec<(Tensor, Tensor)> = tch::no_grad(|| {
            let one = |batch: &DeviceBatch| {
                let logits = self.logits(head, batch, Pass { attach, dropout: None });
                let loss = self.loss_of_rows(&logits, &batch.labels).sum(None::<Kind>);
                (logits, loss)
            };
            // Nothing is read back before everything is queued.
            layout.chunks(BATCHES_AHEAD).flat_map(|batches| self.upload(batches)).map(|batch| one(&batch)).collect()
        });
        let (mut values, mut logits) = (vec![f64::NAN; rows.len()], vec![Vec::new(); rows.len()]);
        let mut loss = 0.0;
        for ((batch_logits, batch_loss), places) in made.iter().zip(order.chunks(size)) {
            loss += batch_loss.double_value(&[]);
            let batch_logits = Vec::<Vec<f64>>::try_from(batch_logits.to_kind(Kind::Double))?;
            for (&place, row) in places.iter().zip(batch_logits) {
                values[place] = if self.task.is_regression() { row[0] } else { largest(&row) };
                logits[place] = row;
            }
        }
        Ok(Predicted { values, logits, loss: loss / rows.len().max(1) as f64 })
    }
}

/// So many tokens, and an eighth of them more or [`FEWEST_LINES`] at most.
fn rounded_up(tokens: usize) -> usize {
    tokens.next_multiple_of((tokens.next_power_of_two() / 16).max(FEWEST_LINES))
}

/// Position of the largest value, the first of equals; NaN where one is NaN.
fn largest(values: &[f64]) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let better = |best: usize, (index, value): (usize, &f64)| if *value > values[best] { index } else { best };
    values.iter().enumerate().fold(0, better) as f64
}

/// Every metric of the task by its name.
///
/// # Errors
/// Predictions that have no score.
pub fn scores(task: &Task, rows: &[Encoded], predictions: &[f64]) -> Result<Vec<(String, f64)>> {
    let labels: Vec<f64> = rows.iter().map(|row| row.label).collect();
    let score = |metric: &Metric| {
        let value = metric.compute(&labels, predictions).map_err(|e| Error::Diverged(e.to_string()))?;
        Ok((metric.name().to_string(), value))
    };
    task.metrics.iter().map(score).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_enough_and_not_many_more() {
        for tokens in 0..10_000 {
            let lines = rounded_up(tokens);
            assert!(lines >= tokens && lines - tokens < (tokens / 8).max(FEWEST_LINES), "{tokens}: {lines}");
        }
        let numbers: std::collections::BTreeSet<usize> = (2_048..4_096).map(rounded_up).collect();
        assert!(numbers.len() <= 10, "{} recorded steps", numbers.len());
    }
}
