//! A run from its first step to `DONE`.

pub mod best;
pub mod callbacks;
pub mod checkpoint;
pub mod classifier;
pub mod collapse;
pub mod context;
pub mod epoch_losses;
pub mod evaluate;
pub mod fitting;
pub mod graph_recorder;
pub mod loader;
pub mod manifest;
pub mod memory;
pub mod outcome;
pub mod parts;
pub mod resume;
pub mod retrace;
pub mod run;
pub mod run_stack;
pub mod schedule;
pub mod seeds;
pub mod stages;
pub mod step_log;
pub mod step_values;
pub mod traces;
pub mod trainer;
