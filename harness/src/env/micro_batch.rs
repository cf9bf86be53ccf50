//! How much of a training step the device is given at a time.

use std::num::NonZeroUsize;
use std::str::FromStr;

/// Most rows of a run that a training step takes at a time (`--micro-batch`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MicroBatch {
    /// All of a batch until the device runs out of memory, and from then on half as many as before.
    Auto,
    /// So many.
    Rows(NonZeroUsize),
}

impl FromStr for MicroBatch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(MicroBatch::Auto),
            rows => rows.parse().map(MicroBatch::Rows).map_err(|_| "expected auto, or a number of rows from 1".into()),
        }
    }
}
