//! The three parameter counts, always named (DESIGN §6). None of them includes the head.

use encoders::TargetModule;

use crate::adapter::lora_layer::LoraLayers;

/// Parameter counts of the adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Every trained value: A, B, and gates or Λ.
    pub allocated: i64,
    /// Values that are left when zero components are dropped and the gate is folded in.
    pub effective: i64,
    /// The number that the authors' own counter prints (spec §1.5, §3.8).
    pub as_published: i64,
}

impl Counts {
    /// Of a method that prunes nothing: everything that is trained is left.
    pub fn dense(count: i64) -> Self {
        Counts { allocated: count, effective: count, as_published: count }
    }

    /// With trained values besides, of which nothing prunes any.
    pub fn and(self, others: i64) -> Self {
        Counts {
            allocated: self.allocated + others,
            effective: self.effective + others,
            as_published: self.as_published + others,
        }
    }
}

/// `sum(rank * (d_in + d_out))` over the modules (exact, spec §3.8).
pub fn effective(modules: &[TargetModule], adapters: &LoraLayers) -> i64 {
    adapters.attached(modules).map(|(module, adapter)| adapter.rank() * (module.d_in + module.d_out)).sum()
}
