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
    /// The same tensors.
    pub fn shallow_clone(&self) -> Self {
        StepValues { loss: self.loss.shallow_clone(), grad_norm: self.grad_norm.shallow_clone() }
    }
}
