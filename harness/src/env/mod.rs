//! The machine: device, clock, console, version.

pub mod clock;
pub mod console;
pub mod device;
pub mod energy;
pub mod events;
pub mod memory;
pub mod micro_batch;
pub mod output;
pub mod panics;
pub mod signals;
pub mod version;
