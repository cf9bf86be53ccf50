//! Linear layers that a method may adapt, and what it attaches to them.

use serde::{Deserialize, Serialize};
use tch::Tensor;

/// One linear layer of the backbone that a method may adapt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetModule {
    /// Position in [`crate::encoder::EncoderInfo::target_modules`].
    pub index: usize,
    /// Exact module path in Hugging Face names, e.g. `bert.encoder.layer.0.attention.self.query`.
    pub path: String,
    /// Role of the linear in its layer.
    pub kind: ModuleKind,
    /// Layer, from 0.
    pub layer: usize,
    /// Input width.
    pub d_in: i64,
    /// Output width.
    pub d_out: i64,
    /// Index of its frozen weight, `[d_out, d_in]`, in [`crate::encoder::EncoderInfo::weights`].
    pub weight: usize,
}

/// Roles of the linears of a transformer layer (spec §1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleKind {
    /// Attention query projection.
    Query,
    /// Attention key projection.
    Key,
    /// Attention value projection.
    Value,
    /// Attention output projection.
    AttentionOutput,
    /// First feed-forward linear.
    Intermediate,
    /// Second feed-forward linear.
    Output,
    /// Attention query, key and value projection in one weight.
    Qkv,
}

impl ModuleKind {
    /// Name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            ModuleKind::Query => "query",
            ModuleKind::Key => "key",
            ModuleKind::Value => "value",
            ModuleKind::AttentionOutput => "attention_output",
            ModuleKind::Intermediate => "intermediate",
            ModuleKind::Output => "output",
            ModuleKind::Qkv => "qkv",
        }
    }
}

/// Low-rank branch of one linear: `x W^T + b + (x A^T) U^T`. With a magnitude m the linear is DoRA's (Liu et al. 2024):
/// `m / ||W + U A|| (x W^T + (x A^T) U^T) + b`, with the norm of each row and no gradient through it.
///
/// For stacked runs every tensor has a first dimension of runs.
#[derive(Clone, Copy)]
pub struct LowRank<'a> {
    /// A, `[r, d_in]`.
    pub lora_a: &'a Tensor,
    /// U, lora_B with gate and scaling folded in, `[d_out, r]`.
    pub scaled_b: &'a Tensor,
    /// m, `[d_out]`.
    pub magnitude: Option<&'a Tensor>,
    /// Probability that a value of the branch's own input is dropped in training (PEFT's `lora_dropout`).
    pub dropout: f64,
}

impl<'a> LowRank<'a> {
    /// A branch without magnitude and dropout.
    pub fn new(lora_a: &'a Tensor, scaled_b: &'a Tensor) -> Self {
        LowRank { lora_a, scaled_b, magnitude: None, dropout: 0.0 }
    }

    /// A and U.
    pub fn factors(&self) -> [&'a Tensor; 2] {
        [self.lora_a, self.scaled_b]
    }
}

/// Contributions of a method to one forward pass of a backbone.
pub trait Attach {
    /// The branch of the linear at `module`.
    fn low_rank(&self, _module: &TargetModule) -> Option<LowRank<'_>> {
        None
    }

    /// The branches of `modules`, k linears with one input, as one branch: `[k r, d_in]` and `[k d_out, k r]`, no
    /// magnitude. Where their inputs are dropped, which each does by itself, it is not used.
    fn fused_qkv(&self, _modules: &[TargetModule]) -> Option<LowRank<'_>> {
        None
    }

    /// The output of the linear at `module`, `[..., d_out]`, changed by a module behind it. Called with the linear's
    /// input `x` (`[..., d_in]`) and output `y` where there is no low-rank branch.
    fn output(&self, _module: &TargetModule, _x: &Tensor, y: Tensor) -> Tensor {
        y
    }

    /// Trained replacement of base weight `index` (as in [`crate::encoder::EncoderInfo::weights`]); `None` where it
    /// stays frozen.
    fn weight(&self, _index: usize) -> Option<&Tensor> {
        None
    }
}

/// Nothing attached: the backbone as it is.
pub struct Frozen;

impl Attach for Frozen {}
