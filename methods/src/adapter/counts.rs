//! The three parameter counts, always named (DESIGN §6). None of them includes the head.

use encoders::TargetModule;

use crate::adapter::lora_layer::LoraLayers;

/// Parameter counts of the adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Every trained value: A, B, and gates or Λ.
    pub allocated: i64,
    /// What is left when zero components are dropped and the gate is folded in: `sum(rank * (d_in + d_out))`.
    pub effective: i64,
    /// What the authors' own counter prints (spec §1.5, §3.8).
    pub as_published: i64,
}

impl Counts {
    /// A method without ranks: what is trained is what is left.
    pub fn dense(count: i64) -> Self {
        Counts { allocated: count, effective: count, as_published: count }
    }
}

/// `sum(rank * (d_in + d_out))` over the modules (exact, spec §3.8).
pub fn effective(modules: &[TargetModule], adapters: &LoraLayers) -> i64 {
    let attached = modules.iter().zip(&adapters.modules).filter_map(|(s, a)| a.as_ref().map(|a| (s, a)));
    attached.map(|(module, adapter)| adapter.rank() * (module.d_in + module.d_out)).sum()
}
