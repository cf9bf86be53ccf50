//! Training time with the device synchronised at both ends, and with pauses for what does not count.

use std::time::{Duration, Instant};

use tch::Device;

use crate::error::Result;

/// A stopwatch on a device.
pub struct Clock {
    device: Device,
    spent: Duration,
    since: Instant,
}

impl Clock {
    /// Waits for the device, then starts.
    pub fn start(device: Device) -> Result<Self> {
        torch_ext::device::synchronize(device)?;
        Ok(Clock { device, spent: Duration::ZERO, since: Instant::now() })
    }

    /// Starts with seconds that were counted before.
    ///
    /// # Errors
    /// A failure on the device.
    pub fn resume(device: Device, seconds: f64) -> Result<Self> {
        Ok(Clock { spent: Duration::from_secs_f64(seconds), ..Clock::start(device)? })
    }

    /// Runs `what` without counting it.
    pub fn pause<T>(&mut self, what: impl FnOnce() -> Result<T>) -> Result<T> {
        torch_ext::device::synchronize(self.device)?;
        self.spent += self.since.elapsed();
        let done = what();
        self.since = Instant::now();
        done
    }

    /// Waits for the device and gives the counted seconds.
    pub fn stop(self) -> Result<f64> {
        torch_ext::device::synchronize(self.device)?;
        Ok((self.spent + self.since.elapsed()).as_secs_f64())
    }
}
