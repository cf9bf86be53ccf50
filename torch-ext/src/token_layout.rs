//! Rows with and without their padding.

use tch::{Kind, Tensor};

/// Where the lines of a batch's rows lie: `length` lines a row, padding among them; or those of tokens alone, one row after the
/// other, and some more at the end that no row has, since a recorded step wants their number to be known.
pub struct Layout {
    /// First line of every row, and the end of the last, `[rows + 1]`, int32.
    pub(crate) starts: Tensor,
    /// What is added to the scores where padding has lines, `[rows, 1, 1, length]`.
    pub(crate) mask: Option<Tensor>,
    moved: Option<Moved>,
    /// Rows.
    pub rows: i64,
    /// Longest row with its padding.
    pub length: i64,
}

/// How lines were moved.
struct Moved {
    /// For every line the one of `[rows * length]` that it is, `[lines]`, int64; the very first where no row has it.
    order: Tensor,
    /// For every line of `[rows * length]` the one it became; of padding that of the token before.
    places: Tensor,
}

impl Layout {
    /// Lines as they are, and what is added to the scores, `[rows, 1, 1, length]`.
    pub fn padded(mask: Tensor) -> Self {
        let (rows, _, _, length) = mask.size4().unwrap_or_default();
        let starts = Tensor::arange(rows + 1, (Kind::Int, mask.device())) * length;
        Layout { starts, mask: Some(mask), moved: None, rows, length }
    }

    /// Tokens alone: of a mask with 1 for a token and 0 for padding, which is at the end of a row, `[rows, length]`, int64, with
    /// room for `lines` tokens: as many as there are, or more. Reads nothing back.
    pub fn packed(mask: &Tensor, lines: i64) -> Self {
        let (rows, length) = mask.size2().unwrap_or_default();
        let like = (Kind::Int64, mask.device());
        let ends = mask.flatten(0, -1).cumsum(0, Kind::Int64);
        let of_rows = ends.view([rows, length]).select(1, length - 1);
        let places = &ends - 1;
        // Padding is sent behind the last line.
        let targets = places.where_scalarother(&mask.flatten(0, -1).ne(0), lines);
        let order = Tensor::zeros([lines + 1], like).scatter(0, &targets, &Tensor::arange(rows * length, like));
        let moved = Moved { order: order.narrow(0, 0, lines), places: places.clamp_min(0) };
        let starts = Tensor::cat(&[Tensor::zeros([1], like), of_rows.clamp_max(lines)], 0).to_kind(Kind::Int);
        Layout { starts, mask: None, moved: Some(moved), rows, length }
    }

    /// For every line the one of `[rows * length]` that it is, where it is another.
    pub(crate) fn order(&self) -> Option<&Tensor> {
        self.moved.as_ref().map(|moved| &moved.order)
    }

    /// `[lines, width]` of `[rows * length, width]`.
    pub fn pack(&self, x: &Tensor) -> Tensor {
        self.moved.as_ref().map_or_else(|| x.shallow_clone(), |moved| x.index_select(0, &moved.order))
    }

    /// `[rows * length, width]` of `[lines, width]`; padding that was left out is what the token before it is.
    pub fn unpack(&self, x: &Tensor) -> Tensor {
        self.moved.as_ref().map_or_else(|| x.shallow_clone(), |moved| x.index_select(0, &moved.places))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn tokens_come_back_and_so_does_their_gradient() {
        let mask = Tensor::from_slice(&[1i64, 1, 0, 1, 0, 0, 1, 1, 1]).view([3, 3]);
        let layout = Layout::packed(&mask, 8);
        assert_eq!(Vec::<i64>::try_from(layout.order().unwrap()).unwrap(), [0, 1, 3, 6, 7, 8, 0, 0]);
        assert_eq!(Vec::<i32>::try_from(&layout.starts).unwrap(), [0, 2, 3, 6]);
        let x = Tensor::randn([9, 2], (Kind::Double, Device::Cpu));
        let lines = layout.pack(&x).set_requires_grad(true);
        let back = layout.unpack(&lines);
        let is_token = mask.view([9, 1]);
        assert_eq!(&back * &is_token, &x * &is_token);
        (&back * &is_token * &x).sum(None::<Kind>).backward();
        let gone = Tensor::zeros([2, 2], (Kind::Double, Device::Cpu));
        assert_eq!(lines.grad(), Tensor::cat(&[lines.detach().narrow(0, 0, 6), gone], 0));
    }
}
