//! Which run is trained when.

pub mod sweep;
pub mod timing;
