//! PiSSA's start values (Meng et al. 2024; spec §7.3).

use std::cell::RefCell;
use std::collections::BTreeMap;

use tch::{Kind, Tensor};

/// Principal components of a backbone's weights, decomposed once for neighbouring runs that start from them: those of the rank and scaling
/// asked for last are kept.
#[derive(Default)]
pub struct PrincipalComponents {
    /// By the weight's place in the backbone, rank, and bits of the scaling.
    known: RefCell<BTreeMap<(usize, i64, u64), [Tensor; 2]>>,
}

impl PrincipalComponents {
    /// [`principal_components`] of the weight at a place of the backbone.
    pub fn of(&self, place: usize, weight: impl FnOnce() -> Tensor, r: i64, scale: f64) -> [Tensor; 2] {
        let mut known = self.known.borrow_mut();
        known.retain(|(_, rank, bits), _| (*rank, *bits) == (r, scale.to_bits()));
        let components = known.entry((place, r, scale.to_bits()));
        let [a, b] = components.or_insert_with(|| principal_components(&weight(), r, scale));
        [a.shallow_clone(), b.shallow_clone()]
    }
}

/// The r largest singular components of a frozen weight W: `A0 = sqrt(S / s) V^T`, `B0 = U sqrt(S / s)`, so that `s B0
/// A0` is the best approximation of W of rank r. Decomposed in float32, as PEFT does.
pub fn principal_components(weight: &Tensor, r: i64, scale: f64) -> [Tensor; 2] {
    tch::no_grad(|| {
        let (u, s, v) = weight.to_kind(Kind::Float).svd(true, true);
        let root = (s.narrow(0, 0, r) / scale).sqrt();
        [root.unsqueeze(1) * v.narrow(1, 0, r).transpose(0, 1), u.narrow(1, 0, r) * root]
    })
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn a_weight_is_decomposed_once_while_rank_and_scaling_stay() {
        let weight = Tensor::randn([6, 4], (Kind::Float, Device::Cpu));
        let shared = PrincipalComponents::default();
        let mut decomposed = 0;
        for (place, r, scale) in [(0, 2, 2.0), (0, 2, 2.0), (1, 2, 2.0), (0, 3, 2.0), (0, 2, 4.0), (0, 2, 2.0)] {
            let read = || {
                decomposed += 1;
                weight.shallow_clone()
            };
            let given = shared.of(place, read, r, scale);
            assert_eq!(given, principal_components(&weight, r, scale), "to the last bit");
        }
        assert_eq!(decomposed, 5);
    }
}
