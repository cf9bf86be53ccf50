//! Values of one step of one run.

use methods::train_state::StepLoss;
use tch::Tensor;

/// Values of one step of one run, on the device. Those of a captured step are overwritten when it is replayed.
pub struct StepValues {
    /// Losses before the update.
    pub loss: StepLoss,
    /// Norm of all gradients before clipping, `[]`.
    pub grad_norm: Tensor,
}

impl StepValues {
    /// The values of several runs: their losses, and the norms of their gradients.
    pub fn of(losses: Vec<StepLoss>, grad_norms: Vec<Tensor>) -> Vec<Self> {
        losses.into_iter().zip(grad_norms).map(|(loss, grad_norm)| StepValues { loss, grad_norm }).collect()
    }

    /// The same tensors.
    pub fn shallow_clone(&self) -> Self {
        StepValues { loss: self.loss.shallow_clone(), grad_norm: self.grad_norm.shallow_clone() }
    }
}
