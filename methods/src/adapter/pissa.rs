//! PiSSA's start values (Meng et al. 2024; spec §7.3).

use tch::{Kind, Tensor};

/// The r largest singular components of a frozen weight W: `A0 = sqrt(S / s) V^T`, `B0 = U sqrt(S / s)`, so that `s B0
/// A0` is the best approximation of W of rank r. Decomposed in float32, as PEFT does.
pub fn principal_components(weight: &Tensor, r: i64, scale: f64) -> [Tensor; 2] {
    tch::no_grad(|| {
        let (u, s, v) = weight.to_kind(Kind::Float).svd(true, true);
        let root = (s.narrow(0, 0, r) / scale).sqrt();
        [root.unsqueeze(1) * v.narrow(1, 0, r).transpose(0, 1), u.narrow(1, 0, r) * root]
    })
}
