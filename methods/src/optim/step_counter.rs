//! The number of a step.

use tch::{Device, Kind, Tensor};

/// A step's number, on the host and on the device. A captured step, which is replayed for many, may read the device's
/// only, as a row of a table.
pub struct StepCounter {
    /// From 0.
    pub number: usize,
    /// The same, `[1]`, int64.
    on_device: Tensor,
}

impl StepCounter {
    /// Step 0.
    pub fn zero(device: Device) -> Self {
        StepCounter { number: 0, on_device: Tensor::zeros([1], (Kind::Int64, device)) }
    }

    /// The step's row of a table with a row for every step.
    pub fn row_of(&self, table: &Tensor) -> Tensor {
        table.index_select(0, &self.on_device).squeeze_dim(0)
    }

    /// The number on the device, `[1]`, int64.
    pub fn on_device(&self) -> &Tensor {
        &self.on_device
    }

    /// Adds one on the device; can be captured.
    pub fn advance_on_device(&mut self) {
        let _ = self.on_device.g_add_scalar_(1);
    }

    /// Goes to a step.
    pub fn set(&mut self, number: usize) {
        self.number = number;
        let _ = self.on_device.fill_(number as i64);
    }
}
