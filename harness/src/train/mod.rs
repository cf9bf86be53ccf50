//! A run from its first step to `DONE`.

pub mod best;
pub mod classifier;
pub mod collapse;
pub mod manifest;
pub mod run;
pub mod seeds;
pub mod trainer;
