//! Runs as event files of TensorBoard.

pub mod event;
pub mod record;
pub mod run;
