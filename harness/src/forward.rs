//! The forward pass of a run: rows as batches, batches as logits, logits as predictions.

use datasets::Task;
use datasets::batch::{Batch, Padding, batches};
use datasets::metrics::Metric;
use datasets::tokenizer::Encoded;
use encoders::{Attach, Encoder, Inputs as Tokens, Pass};
use tch::{Device, Kind, Reduction, Tensor};

use crate::error::{Error, Result};
use crate::inputs::Inputs;
use crate::spec::Precision;

/// Fewest rows predicted at a time: without gradients there is room.
const PREDICTED_ROWS: usize = 64;

/// A backbone and how rows reach it.
pub struct Forward<'a> {
    /// The backbone.
    pub encoder: &'a dyn Encoder,
    /// Whose rows they are.
    pub task: &'static Task,
    /// Where it runs.
    pub device: Device,
    /// Number format.
    pub precision: Precision,
    /// How batches are padded.
    pub padding: Padding,
    /// Longest input in tokens.
    pub max_length: usize,
    pad_id: u32,
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

impl<'a> Forward<'a> {
    /// On the inputs' device.
    pub fn new(
        inputs: &'a Inputs,
        task: &'static Task,
        precision: Precision,
        padding: Padding,
        max_length: usize,
    ) -> Self {
        let (encoder, device) = (inputs.encoder.as_ref(), inputs.device);
        Forward { encoder, task, device, precision, padding, max_length, pad_id: inputs.tokenizer.pad_id() }
    }

    /// Rows laid out in batches, in the given order.
    pub fn layout(&self, rows: &[Encoded], order: &[usize], batch_size: usize) -> Vec<Batch> {
        batches(rows, order, batch_size, self.padding, self.max_length, self.pad_id)
    }

    /// Logits `[rows, outputs]`, float32, with the head's tensors in the encoder's order.
    ///
    /// # Errors
    /// libtorch's; an encoder without layers.
    pub fn logits(&self, head: &[Tensor], attach: &dyn Attach, batch: &Batch, train: bool) -> Result<Tensor> {
        let shape = [batch.rows as i64, batch.length as i64];
        let on_device = |values: &[i64]| Tensor::from_slice(values).view(shape).to_device(self.device);
        let tokens =
            Tokens { ids: on_device(&batch.ids), mask: on_device(&batch.mask), type_ids: on_device(&batch.type_ids) };
        let _autocast = match self.precision {
            Precision::Bf16 => Some(torch_ext::autocast_bf16(self.device)?),
            Precision::Fp32 | Precision::Tf32 => None,
        };
        let hidden = self.encoder.hidden_states(&tokens, Pass { attach, train });
        let last = hidden.last().ok_or_else(|| Error::Internal("the encoder has no layer".into()))?;
        Ok(self.encoder.logits(last, head, train).to_kind(Kind::Float))
    }

    /// Mean cross-entropy, or mean squared error for a score (spec §4), `[]`.
    pub fn loss(&self, logits: &Tensor, batch: &Batch) -> Tensor {
        let labels = Tensor::from_slice(&batch.labels).to_device(self.device);
        if self.task.is_regression() {
            return logits.squeeze_dim(-1).mse_loss(&labels.to_kind(Kind::Float), Reduction::Mean);
        }
        logits.cross_entropy_loss::<&Tensor>(&labels.to_kind(Kind::Int64), None, Reduction::Mean, -100, 0.0)
    }

    /// Predicts every row, at least `batch_size` at a time. Rows are batched by length and given back in their own order.
    ///
    /// # Errors
    /// As [`Forward::logits`].
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
        let mut predicted =
            Predicted { values: vec![f64::NAN; rows.len()], logits: vec![Vec::new(); rows.len()], loss: 0.0 };
        for (batch, places) in self.layout(rows, &order, size).iter().zip(order.chunks(size)) {
            let (logits, loss) = tch::no_grad(|| -> Result<_> {
                let logits = self.logits(head, attach, batch, false)?;
                let loss = self.loss(&logits, batch).double_value(&[]);
                Ok((Vec::<Vec<f64>>::try_from(logits.to_kind(Kind::Double))?, loss))
            })?;
            predicted.loss += loss * batch.rows as f64;
            for (&place, logits) in places.iter().zip(logits) {
                predicted.values[place] = if self.task.is_regression() { logits[0] } else { largest(&logits) };
                predicted.logits[place] = logits;
            }
        }
        predicted.loss /= rows.len().max(1) as f64;
        Ok(predicted)
    }
}

/// Position of the largest value, the first of equals; NaN where one is NaN.
fn largest(values: &[f64]) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let best =
        values.iter().enumerate().fold(0, |best, (index, value)| if *value > values[best] { index } else { best });
    best as f64
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
