//! Flat parameters and their optimiser.

pub mod adamw;
pub mod config;
pub mod params;
pub mod step_counter;
