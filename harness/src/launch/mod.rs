//! Which run is trained when.

pub mod headline;
pub mod preflight;
pub mod stacking;
pub mod sweep;
pub mod timing;
