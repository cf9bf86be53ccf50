//! A run's surroundings: what the runs of a sweep share, and where one is stored.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::env::console::Progress;
use crate::load::backbone::Backbone;
use crate::plan::origin::RecipeRules;
use crate::plan::spec::RunSpec;
use crate::store::leased_run::LeasedRun;

/// Context shared by all runs of a sweep.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// The backbone.
    pub backbone: &'a Backbone,
    /// Recipe and rule of the runs, for their manifests.
    pub origin: &'a RecipeRules,
    /// Shown while it goes on.
    pub progress: &'a Progress,
    /// Set by a stop signal.
    pub stop: &'a AtomicBool,
    /// Time between two checkpoints of a run.
    pub checkpoint_every: Duration,
    /// Steps between two rows of `steps.csv`; none where nobody says, 0 for no rows.
    pub log_steps: Option<usize>,
}

/// A run and where it is stored.
pub type StoredRun<'a> = (&'a RunSpec, &'a LeasedRun);
