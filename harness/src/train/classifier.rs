//! The model of a run: a frozen encoder, what is attached to it, a head, and the loss of its logits.

use std::rc::Rc;

use datasets::Task;
use encoders::{Attach, Encoder, Pass, TokenBatch};
use tch::{Kind, Reduction, Tensor};
use torch_ext::ops::dropout::DropoutRng;

/// An encoder with a classification head for a task.
pub struct SequenceClassifier {
    encoder: Rc<dyn Encoder>,
    is_regression: bool,
}

impl SequenceClassifier {
    /// The encoder for a task's labels.
    pub fn new(encoder: Rc<dyn Encoder>, task: &Task) -> Self {
        SequenceClassifier { encoder, is_regression: task.is_regression() }
    }

    /// Whether its one output is a score.
    pub fn is_regression(&self) -> bool {
        self.is_regression
    }

    /// Whether padding is left out where it may be, with so much attached and dropped.
    pub fn packs(&self, attach: &dyn Attach, dropout: Option<&DropoutRng>) -> bool {
        self.encoder.packs(Pass { attach, dropout })
    }

    /// Logits `[rows, outputs]`, float32, of a batch; `dropout` in training. The head's tensors are in the encoder's order, for
    /// several runs a stack of each.
    pub fn logits(
        &self,
        tokens: &TokenBatch,
        head: &[Tensor],
        attach: &dyn Attach,
        dropout: Option<&DropoutRng>,
    ) -> Tensor {
        let pass = Pass { attach, dropout };
        let last_hidden_state = self.encoder.last_hidden_state(tokens, pass);
        self.encoder.logits(&last_hidden_state, tokens, head, pass)
    }

    /// Loss `[rows]` of logits `[rows, outputs]`: cross-entropy, or squared error for a score (spec §4).
    pub fn loss(&self, logits: &Tensor, labels: &Tensor) -> Tensor {
        if self.is_regression {
            return logits.squeeze_dim(-1).mse_loss(labels, Reduction::None);
        }
        logits.cross_entropy_loss::<&Tensor>(labels, None, Reduction::None, -100, 0.0)
    }

    /// Mean loss `[]` of every run whose rows the logits hold, run by run.
    pub fn mean_losses(&self, logits: &Tensor, labels: &Tensor, runs: i64) -> Vec<Tensor> {
        self.loss(logits, labels).view([runs, -1]).mean_dim(1, false, None::<Kind>).unbind(0)
    }
}
