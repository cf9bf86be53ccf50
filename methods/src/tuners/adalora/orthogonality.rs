//! AdaLoRA's orthogonality penalty (spec §2.2).

use tch::{Kind, Tensor};

use crate::adapter::module_groups::ModuleGroup;
use crate::optim::params::ParamViews;

/// A and B of a shape, `[.., k, r, d_in]` and `[.., k, d_out, r]`, give their Gram matrices `[.., k, r, r]`, summed chunk by chunk:
/// for so few values a product's length is all that a GPU can share out.
pub(crate) fn grams(group: &ModuleGroup, views: &ParamViews) -> [Tensor; 2] {
    let (a, b) = (views.get(group.a), views.get(group.b));
    let rows_of_a = a.unflatten(-1, [chunks(group.d_in), -1]).transpose(-3, -2);
    let rows_of_b = b.unflatten(-2, [chunks(group.d_out), -1]).transpose(-2, -1);
    [rows_of_a, rows_of_b].map(|rows| {
        let products = rows.matmul(&rows.transpose(-2, -1));
        let is_one = rows.size()[rows.dim() - 3] == 1;
        if is_one { products.squeeze_dim(-3) } else { products.sum_dim_intlist([-3].as_slice(), false, None::<Kind>) }
    })
}

/// Chunks of a sum over so many values.
fn chunks(values: i64) -> i64 {
    const CHUNK: i64 = 256;
    if values % CHUNK == 0 { values / CHUNK } else { 1 }
}

/// Mean over Gram matrices `[.., k, r, r]` of `||G - I||_F`, `[..]`.
pub(crate) fn mean_distance(gram: &Tensor) -> Tensor {
    let eye = Tensor::eye(gram.size()[gram.dim() - 1], (gram.kind(), gram.device()));
    let squares = (gram - eye).square().sum_dim_intlist([-2, -1].as_slice(), false, None::<Kind>);
    squares.sqrt().mean_dim(-1, false, None::<Kind>)
}
