//! Options of SoRA.

use serde::{Deserialize, Serialize};

use crate::adapter::branch_options::BranchOptions;
use crate::bound::Bound;
use crate::options::Options;

/// Which SoRA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// As the released code runs: L1 term in the loss, and the released threshold (dead zone 2ξ) with constant ξ.
    Released,
    /// The proximal form the paper describes, reconstructed (its text was not at hand): no L1 term, the proximal map with
    /// threshold `lr_gate(t) * λ / N` of N gates: the map of the same term λ mean |g|.
    Paper,
}

/// How ξ grows from stage to stage (spec §3.9, `_build_lambda_list`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XiSpacing {
    /// Equal steps.
    Linear,
    /// Logarithm of equal steps between the exponentials.
    LogLinear,
    /// Exponential of equal steps between the logarithms; needs ξ > 0.
    ExpLinear,
}

/// A sparsifying schedule.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XiSchedule {
    /// Spacing of the list.
    pub spacing: XiSpacing,
    /// Last ξ.
    pub max: f64,
    /// Entries of the list, the first included.
    pub stages: usize,
}

/// Options of SoRA.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SoraOptions {
    /// Maximum rank.
    pub r: i64,
    /// Scaling numerator: the branch is scaled by α/r_max, also after pruning.
    pub alpha: f64,
    /// Where branches are, their dropout, and trained biases.
    #[serde(flatten, skip_deserializing)]
    pub branch: BranchOptions,
    /// Released or paper form.
    pub variant: Variant,
    /// λ of the released form (`sparse_lambda`): weight of the mean |g| in the loss. Not used by the paper form.
    pub l1_weight: f64,
    /// λ of the paper form: weight of the mean |g| whose proximal map is the threshold. Not used by the released form.
    pub prox_weight: f64,
    /// ξ of the released form (`sparse_lambda_2`): constant threshold. Not used by the paper form.
    pub xi: f64,
    /// Peak learning rate of the gates; the protocol's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate_lr: Option<f64>,
    /// Sparsifying schedule over stages (released form only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xi_schedule: Option<XiSchedule>,
}

impl Default for SoraOptions {
    /// r_max 8, α 16, λ = 10 and ξ = 3e-4: the only fixed setting the authors published (spec §4.5). The paper form has the
    /// same λ, so that `variant` can be changed alone.
    fn default() -> Self {
        SoraOptions {
            r: 8,
            alpha: 16.0,
            branch: BranchOptions::default(),
            variant: Variant::Released,
            l1_weight: 10.0,
            prox_weight: 10.0,
            xi: 3e-4,
            gate_lr: None,
            xi_schedule: None,
        }
    }
}

impl Options for SoraOptions {
    const BRANCH_KEYS: &[&str] = BranchOptions::KEYS;

    fn bounds(&self) -> Vec<Bound> {
        let schedule = self.xi_schedule.map(|schedule| {
            [Bound::zero_or_more("xi_schedule.max", schedule.max), Bound::count("xi_schedule.stages", schedule.stages)]
        });
        let numbers = [
            Bound::rank("r", self.r),
            Bound::above_zero("alpha", self.alpha),
            self.branch.bound(),
            Bound::zero_or_more("l1_weight", self.l1_weight),
            Bound::zero_or_more("prox_weight", self.prox_weight),
            Bound::zero_or_more("xi", self.xi),
        ];
        let gate_lr = self.gate_lr.map(|lr| Bound::above_zero("gate_lr", lr));
        numbers.into_iter().chain(gate_lr).chain(schedule.into_iter().flatten()).collect()
    }

    fn branch(&mut self) -> Option<&mut BranchOptions> {
        Some(&mut self.branch)
    }
}
