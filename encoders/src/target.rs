//! Where a method may attach.

use serde::{Deserialize, Serialize};

/// One linear layer of the backbone that a method may adapt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetModule {
    /// Position in the encoder's list of modules.
    pub index: usize,
    /// Exact module path in Hugging Face names, e.g. `bert.encoder.layer.0.attention.self.query`.
    pub path: String,
    /// Which of the six linears of a layer it is.
    pub kind: ModuleKind,
    /// Layer, from 0.
    pub layer: usize,
    /// Input width.
    pub d_in: i64,
    /// Output width.
    pub d_out: i64,
}

/// The six linears of a transformer layer (spec §1.2).
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
        }
    }
}
