//! Rows with and without their padding.

use tch::{Kind, Tensor};

/// Place of every row's tokens in a `[tokens, width]` matrix: `length` a row, padding among them; or real tokens alone, row after
/// row. A packed matrix may end with tokens that no row has, because a captured step needs their number to be known.
pub struct TokenLayout {
    /// First token of every row, then the total, `[rows + 1]`, int32.
    pub(crate) cu_seqlens: Tensor,
    /// Added to the scores where padding is among the tokens, `[rows, 1, 1, length]`.
    pub(crate) mask: Option<Tensor>,
    packing: Option<Packing>,
    /// Rows.
    pub rows: i64,
    /// Longest row with its padding.
    pub length: i64,
}

/// Index of packed tokens in padded rows.
struct Packing {
    /// For every packed token its index in `[rows * length]`, `[tokens]`, int64; 0 where no row has it.
    indices: Tensor,
    /// The same, and the index behind the last place where no row has it.
    places: Tensor,
}

impl TokenLayout {
    /// Padded rows, and their mask, which is added to the scores, `[rows, 1, 1, length]`.
    pub fn padded(mask: Tensor) -> Self {
        let (rows, _, _, length) = mask.size4().unwrap_or_default();
        let cu_seqlens = Tensor::arange(rows + 1, (Kind::Int, mask.device())) * length;
        TokenLayout { cu_seqlens, mask: Some(mask), packing: None, rows, length }
    }

    /// Packed rows of a mask `[rows, length]`, int64, with 1 for a token and 0 for padding, which is at the end of a row.
    /// `capacity` is the number of packed tokens, at least that of the mask. Reads nothing back.
    pub fn packed(mask: &Tensor, capacity: i64) -> Self {
        let (rows, length) = mask.size2().unwrap_or_default();
        let like = (Kind::Int64, mask.device());
        let token_ends = mask.flatten(0, -1).cumsum(0, Kind::Int64);
        let row_ends = token_ends.view([rows, length]).select(1, length - 1);
        // Padding is sent behind the last token.
        let targets = (&token_ends - 1).where_scalarother(&mask.flatten(0, -1).ne(0), capacity);
        let all = rows * length;
        let places = Tensor::full([capacity + 1], all, like).scatter(0, &targets, &Tensor::arange(all, like));
        let places = places.narrow(0, 0, capacity);
        let packing = Packing { indices: places.remainder(all), places };
        let cu_seqlens = Tensor::cat(&[Tensor::zeros([1], like), row_ends.clamp_max(capacity)], 0).to_kind(Kind::Int);
        TokenLayout { cu_seqlens, mask: None, packing: Some(packing), rows, length }
    }

    /// For every packed token its index in `[rows * length]`; `None` where rows are padded.
    pub(crate) fn indices(&self) -> Option<&Tensor> {
        self.packing.as_ref().map(|packing| &packing.indices)
    }

    /// `[tokens, width]` of `[rows * length, width]`.
    pub fn pack(&self, x: &Tensor) -> Tensor {
        self.packing.as_ref().map_or_else(|| x.shallow_clone(), |packing| x.index_select(0, &packing.indices))
    }

    /// `[rows * length, width]` of `[tokens, width]`, 0 at padding. Every token has one place, so that its gradient is read from there
    /// and not summed over padding.
    pub fn unpack(&self, x: &Tensor) -> Tensor {
        let Some(Packing { places, .. }) = &self.packing else { return x.shallow_clone() };
        let all = self.rows * self.length;
        let padded = Tensor::zeros([all + 1, x.size()[1]], (x.kind(), x.device()));
        padded.index_copy(0, places, x).narrow(0, 0, all)
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn tokens_come_back_and_so_does_their_gradient() {
        let mask = Tensor::from_slice(&[1i64, 1, 0, 1, 0, 0, 1, 1, 1]).view([3, 3]);
        let layout = TokenLayout::packed(&mask, 8);
        assert_eq!(Vec::<i64>::try_from(layout.indices().unwrap()).unwrap(), [0, 1, 3, 6, 7, 8, 0, 0]);
        assert_eq!(Vec::<i32>::try_from(&layout.cu_seqlens).unwrap(), [0, 2, 3, 6]);
        let x = Tensor::randn([9, 2], (Kind::Double, Device::Cpu));
        let tokens = layout.pack(&x).set_requires_grad(true);
        let back = layout.unpack(&tokens);
        let is_token = mask.view([9, 1]);
        assert_eq!(back, &x * &is_token);
        (&back * &is_token * &x).sum(None::<Kind>).backward();
        let unused = Tensor::zeros([2, 2], (Kind::Double, Device::Cpu));
        assert_eq!(tokens.grad(), Tensor::cat(&[tokens.detach().narrow(0, 0, 6), unused], 0));
    }
}
