//! AdaLoRA's orthogonality penalty (spec §2.2).

use tch::{Kind, Tensor};

use crate::adapter::module_groups::ModuleGroup;
use crate::optim::params::ParamViews;

/// A and B of a shape, `[k, r, d_in]` and `[k, d_out, r]`, give their Gram matrices `[k, r, r]`, summed chunk by chunk: for so few
/// values a product's length is all that a GPU can share out.
pub(crate) fn grams(group: &ModuleGroup, views: &ParamViews) -> [Tensor; 2] {
    let (a, b) = (views.get(group.a), views.get(group.b));
    let ([k, r, d_in], d_out) = ([0, 1, 2].map(|dim| a.size()[dim]), b.size()[1]);
    let rows_of_a = a.view([k, r, chunks(d_in), -1]).transpose(1, 2).flatten(0, 1);
    let rows_of_b = b.view([k * chunks(d_out), -1, r]).transpose(1, 2);
    [rows_of_a, rows_of_b].map(|rows| {
        let of_chunks = rows.bmm(&rows.transpose(1, 2)).view([k, -1, r, r]);
        of_chunks.sum_dim_intlist([1].as_slice(), false, None::<Kind>)
    })
}

/// Chunks of a sum over so many values.
fn chunks(values: i64) -> i64 {
    const CHUNK: i64 = 256;
    if values % CHUNK == 0 { values / CHUNK } else { 1 }
}

/// Sum over Gram matrices `[k, r, r]` of `||G - I||_F`.
pub(crate) fn gram_distance(gram: &Tensor) -> Tensor {
    let eye = Tensor::eye(gram.size()[1], (gram.kind(), gram.device()));
    (gram - eye).square().sum_dim_intlist([1, 2].as_slice(), false, None::<Kind>).sqrt().sum(None::<Kind>)
}
