//! Which run is trained when.

pub mod estimate;
pub mod headline;
pub mod plan_file;
pub mod pool;
pub mod preflight;
pub mod slurm;
pub mod stack_size;
pub mod stacking;
pub mod sweep;
pub mod timing;
pub mod watched;
