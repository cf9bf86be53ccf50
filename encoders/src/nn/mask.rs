//! Attention masks.

use tch::{Kind, Tensor};

/// Sum to a score that softmax sends to 0, finite in every kind.
fn far(kind: Kind) -> f64 {
    if kind == Kind::Half { 6e4 } else { 1e30 }
}

/// 0 where `allowed` is 1, and a value that softmax sends to 0 where it is 0.
pub(crate) fn additive(allowed: &Tensor, kind: Kind) -> Tensor {
    ((allowed.to_kind(Kind::Float) - 1.0) * far(kind)).to_kind(kind)
}

/// 0 for a token and a value that softmax sends to 0 for padding, `[rows, 1, 1, length]`, of a mask `[rows, length]`.
pub(crate) fn additive_mask(mask: &Tensor, kind: Kind) -> Tensor {
    let (rows, length) = mask.size2().unwrap_or_default();
    additive(mask, kind).view([rows, 1, 1, length])
}
