//! A run's surroundings: what the runs of a sweep share, and where one is stored.

use std::sync::atomic::AtomicBool;

use crate::env::console::Progress;
use crate::load::inputs::Inputs;
use crate::plan::origin::RecipeRules;
use crate::plan::spec::RunSpec;
use crate::store::run_dir::RunDir;

/// Context shared by all runs of a sweep.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    /// The backbone.
    pub inputs: &'a Inputs,
    /// Recipe and rule of the runs, for their manifests.
    pub origin: &'a RecipeRules,
    /// Shown while it goes on.
    pub progress: &'a Progress,
    /// Set by Ctrl-C.
    pub stop: &'a AtomicBool,
}

/// A run and where it is stored.
pub type StoredRun<'a> = (&'a RunSpec, &'a RunDir);
