//! Options of AdaLoRA.

use serde::{Deserialize, Serialize};

use crate::adapter::branch_options::BranchOptions;
use crate::bound::Bound;
use crate::options::Options;

/// A number of steps: absolute, or a share of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Span {
    /// Steps.
    Steps(usize),
    /// Share of all steps, from 0 to below 1, rounded down.
    Share(f64),
}

impl Span {
    pub fn steps(self, total: usize) -> usize {
        match self {
            Span::Steps(steps) => steps,
            Span::Share(share) => (share * total as f64) as usize,
        }
    }
}

/// Masks from step `T - t_f` on (spec §2.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinalPhase {
    /// Released code: a new mask from the frozen scores at every step after `T - t_f`.
    Released,
    /// huggingface/peft: masks at `T - t_f` in any case and keeps that mask.
    Peft,
}

/// Options of AdaLoRA.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaLoraOptions {
    /// Rank of every module at the start.
    pub init_r: i64,
    /// Average rank at the end.
    pub target_r: i64,
    /// Scaling numerator: the branch is scaled by α/(init_r + 1e-5) all through.
    pub alpha: f64,
    /// Where branches are, their dropout, and trained biases.
    #[serde(flatten, skip_deserializing)]
    pub branch: BranchOptions,
    /// γ, weight of the orthogonality penalty.
    pub gamma: f64,
    /// t_i: steps (integer) or share of the run (fraction) with the full budget.
    pub tinit: Span,
    /// t_f: steps (integer) or share of the run (fraction) with the final budget.
    pub tfinal: Span,
    /// ΔT: steps between two maskings.
    pub delta_t: usize,
    /// Decay of the importance average.
    pub beta1: f64,
    /// Decay of the uncertainty average.
    pub beta2: f64,
    /// Masks of the final phase.
    pub final_phase: FinalPhase,
}

impl Default for AdaLoraOptions {
    /// The 1.27M row: 12 → 8 (spec §2.8); t_i and t_f are RTE's 600 and 1,800 of 3,900 steps as shares, so that they fit
    /// a run of any length.
    fn default() -> Self {
        AdaLoraOptions {
            init_r: 12,
            target_r: 8,
            alpha: 16.0,
            branch: BranchOptions::default(),
            gamma: 0.1,
            tinit: Span::Share(0.15),
            tfinal: Span::Share(0.46),
            delta_t: 1,
            beta1: 0.85,
            beta2: 0.85,
            final_phase: FinalPhase::Released,
        }
    }
}

impl Options for AdaLoraOptions {
    const BRANCH_KEYS: &[&str] = BranchOptions::KEYS;

    fn bounds(&self) -> Vec<Bound> {
        let spans =
            [("tinit", self.tinit), ("tfinal", self.tfinal)].into_iter().filter_map(|(option, span)| match span {
                Span::Steps(_) => None,
                Span::Share(share) => {
                    Some(Bound::share(option, share).or("a number of steps is written without a point"))
                }
            });
        let numbers = [
            Bound::rank("init_r", self.init_r),
            Bound::rank("target_r", self.target_r),
            Bound::above_zero("alpha", self.alpha),
            self.branch.bound(),
            Bound::zero_or_more("gamma", self.gamma),
            Bound::count("delta_t", self.delta_t),
            Bound::share("beta1", self.beta1),
            Bound::share("beta2", self.beta2),
        ];
        numbers.into_iter().chain(spans).collect()
    }

    fn branch(&mut self) -> Option<&mut BranchOptions> {
        Some(&mut self.branch)
    }
}
