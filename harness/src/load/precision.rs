//! Number formats as libtorch's kinds.

use tch::Kind;

use crate::plan::spec::Precision;

/// Kind of the frozen weights.
pub fn weight_kind(precision: Precision) -> Kind {
    match precision {
        Precision::Fp32 | Precision::Tf32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
    }
}
