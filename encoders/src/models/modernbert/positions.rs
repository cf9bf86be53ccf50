//! Rotary position embedding (Su et al. 2021) and the window of local attention.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tch::{Device, Kind, Tensor};

use crate::models::modernbert::options::{Options, Span};
use crate::nn::mask::additive;

/// Cosines and sines of every position, `[length, head]` each.
pub(crate) type Rotary = [Tensor; 2];

/// Tables of every length so far: a captured graph cannot make them.
pub(crate) struct Positions {
    width: i64,
    thetas: [f64; 2],
    reach: i64,
    options: (Device, Kind),
    known: RefCell<BTreeMap<i64, Rc<Tables>>>,
}

/// Tables of one length.
pub(crate) struct Tables {
    /// Of global and of local layers.
    rotary: [Rotary; 2],
    /// Added to the scores of a local layer: 0 where two positions are within reach, `[length, length]`.
    window: Tensor,
}

impl Positions {
    pub fn new(options: &Options, of_tensors: (Device, Kind)) -> Self {
        Positions {
            width: options.head_width(),
            thetas: options.thetas,
            reach: options.reach,
            options: of_tensors,
            known: RefCell::default(),
        }
    }

    /// The tables of a length.
    pub fn tables(&self, length: i64) -> Rc<Tables> {
        let mut known = self.known.borrow_mut();
        Rc::clone(known.entry(length).or_insert_with(|| Rc::new(self.make(length))))
    }

    fn make(&self, length: i64) -> Tables {
        let (device, kind) = self.options;
        let position = Tensor::arange(length, (Kind::Int64, Device::Cpu));
        let distance = (position.unsqueeze(0) - position.unsqueeze(1)).abs();
        let rotary = self.thetas.map(|theta| {
            let angles = angles(theta, self.width, &position);
            [angles.cos(), angles.sin()].map(|table| table.to_kind(kind).to_device(device))
        });
        Tables { rotary, window: additive(&distance.le(self.reach), kind).to_device(device) }
    }
}

/// Angles `position theta^(-2i/width)`, twice side by side, `[length, width]`: the same float32 operations as the
/// reference's, which computes them so in every precision.
fn angles(theta: f64, width: i64, position: &Tensor) -> Tensor {
    let exponent =
        Tensor::arange_start_step(0, width, 2, (Kind::Int64, Device::Cpu)).to_kind(Kind::Float) / width as f64;
    let frequency = Tensor::pow_scalar(theta, &exponent).reciprocal();
    let angles = position.to_kind(Kind::Float).unsqueeze(1) * frequency.unsqueeze(0);
    Tensor::cat(&[&angles, &angles], -1)
}

impl Tables {
    /// The rotary tables of a layer.
    pub fn rotary(&self, span: Span) -> &Rotary {
        &self.rotary[span as usize]
    }

    /// Masks of global and of local layers, which are added to the scores: `[rows, 1, 1, length]` and
    /// `[rows, 1, length, length]`.
    pub fn masks(&self, attention_mask: &Tensor) -> [Tensor; 2] {
        let global = additive(&attention_mask.ne(0), self.window.kind()).unsqueeze(1).unsqueeze(1);
        let local = global.minimum(&self.window);
        [global, local]
    }
}

/// `x` `[.., length, head]` with each pair of values i and i + head / 2 turned by its angle.
pub(crate) fn rotated(x: &Tensor, [cos, sin]: &Rotary) -> Tensor {
    let half = x.size().last().map_or(0, |width| width / 2);
    let mut halves = x.split(half, -1).into_iter();
    let [first, second] = std::array::from_fn(|_| halves.next().unwrap_or_default());
    x * cos + Tensor::cat(&[-second, first], -1) * sin
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `q_i · k_j` depends on `i - j` alone.
    #[test]
    fn products_of_turned_vectors_depend_on_their_distance() {
        let position = Tensor::arange(12, (Kind::Int64, Device::Cpu));
        let angles = angles(100.0, 8, &position).to_kind(Kind::Double);
        let rotary = [angles.cos(), angles.sin()];
        let random = || Tensor::randn([1, 8], (Kind::Double, Device::Cpu)).expand([12, 8], false);
        let scores = rotated(&random(), &rotary).matmul(&rotated(&random(), &rotary).transpose(0, 1));
        for (i, j) in [(3, 1), (11, 9), (5, 5), (2, 7)] {
            let (i0, j0) = (i - i.min(j), j - i.min(j));
            let error = scores.double_value(&[i, j]) - scores.double_value(&[i0, j0]);
            assert!(error.abs() < 1e-5, "{i} {j}: {error}");
        }
        assert!((scores.double_value(&[3, 1]) - scores.double_value(&[3, 2])).abs() > 1e-3);
    }

    #[test]
    fn a_local_layer_sees_tokens_within_its_reach() {
        let positions = Positions {
            width: 4,
            thetas: [10.0, 10.0],
            reach: 1,
            options: (Device::Cpu, Kind::Half),
            known: RefCell::default(),
        };
        let mask = Tensor::from_slice(&[1i64, 1, 1, 0]).view([1, 4]);
        let [global, local] = positions.tables(4).masks(&mask);
        let open = |mask: &Tensor| Vec::<bool>::try_from(mask.eq(0.0).flatten(0, -1)).unwrap();
        assert_eq!(open(&global), [true, true, true, false]);
        let rows = open(&local);
        assert_eq!(rows[..4], [true, true, false, false]);
        assert_eq!(rows[4..8], [true, true, true, false]);
        assert_eq!(rows[8..12], [false, true, true, false]);
        let position = Tensor::arange(4, (Kind::Int64, Device::Cpu));
        let near = (position.unsqueeze(0) - position.unsqueeze(1)).abs().le(1);
        let tokens = mask.ne(0).unsqueeze(1).unsqueeze(1);
        assert_eq!(local, additive(&tokens.logical_and(&near), Kind::Half), "the mask of both conditions");
        // A sum of two masks would not be finite.
        assert!(local.isfinite().all().int64_value(&[]) == 1);
    }
}
