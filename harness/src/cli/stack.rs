//! `--stack`.

use clap::Args;

use crate::launch::stack_size::StackSize;

/// Number of runs that share their steps.
#[derive(Debug, Clone, Copy, Args)]
pub struct StackFlag {
    /// Train up to this many runs of a task side by side on one backbone, whatever their seeds, rates, ranks and low-rank methods: the
    /// results are those of separate runs within rounding, in less time and more memory. `auto`: as many as timed steps say.
    #[arg(long, visible_alias = "together", default_value = "1", value_name = "RUNS")]
    pub stack: StackSize,
}
