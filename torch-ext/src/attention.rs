//! Attention with dropout, and with DeBERTa's position terms where there are any.

use std::ptr::null;

use tch::{Kind, Tensor};

use crate::dropout::{Dropout, Randomness};
use crate::{cuda, kernels, pointer, taken};

/// What attention is computed from.
pub struct Attention<'a> {
    /// `[runs * rows * length, heads * head]`.
    pub query: &'a Tensor,
    /// As the query.
    pub key: &'a Tensor,
    /// As the query.
    pub value: &'a Tensor,
    /// Keys and queries of the distances `1 - length` to `length - 1`, and one more that no pair has:
    /// `[runs * 2 length, heads * head]`. They add `q_i · k(i - j)` and `k_j · q(i - j)` to a score before its scale.
    pub positions: Option<[&'a Tensor; 2]>,
    /// Added to the scores, `[runs * rows, 1, 1, length]`.
    pub mask: &'a Tensor,
    /// Attention heads.
    pub heads: i64,
    /// Factor of the scores.
    pub scale: f64,
    /// Of the weights.
    pub dropout: Dropout<'a>,
}

impl Attention<'_> {
    /// The context, shaped as the query.
    pub fn context(&self) -> Tensor {
        let head = self.query.size()[1] / self.heads;
        let has_kernel = self.query.kind() == Kind::BFloat16 && [32, 64].contains(&head);
        match self.dropout.random {
            Some(random) if has_kernel && kernels::serve(self.query) => self.fused(random),
            _ => self.plain(),
        }
    }

    fn fused(&self, random: &Randomness) -> Tensor {
        taken(|out| {
            let functions = cuda::functions()?;
            let call = functions.attention;
            let [query, key, value, mask] = [self.query, self.key, self.value, self.mask].map(pointer);
            let [of_keys, of_queries] = self.positions.map_or([null(); 2], |positions| positions.map(pointer));
            let Dropout { place, rate, .. } = self.dropout;
            let (heads, scale) = (self.heads, self.scale);
            // SAFETY: the tensors outlive the call, and the missing ones are null.
            cuda::checked(functions, unsafe {
                call(
                    query, key, value, of_keys, of_queries, mask, pointer(&random.state), place, rate, heads, scale, out,
                )
            })
        })
    }

    /// The kernel's twin. The query is scaled before its products, which keeps half precision away from its bound.
    fn plain(&self) -> Tensor {
        let (rows, _, _, length) = self.mask.size4().unwrap_or_default();
        let query = self.query * self.scale;
        let bias = self.positions.map_or_else(
            || self.mask.to_kind(query.kind()),
            |[keys, queries]| {
                let content = self.by_distance(&query, &from_last(keys, self.dropout.runs()));
                let position = self.by_distance(self.key, &(queries * self.scale));
                position_bias(&content, &position, self.mask)
            },
        );
        let [query, key, value] =
            [&query, self.key, self.value].map(|x| x.view([rows, length, self.heads, -1]).transpose(1, 2));
        let context = match self.dropout.random {
            None => {
                let bias = bias.expand([rows, -1, length, length], true);
                Tensor::scaled_dot_product_attention(&query, &key, &value, Some(&bias), 0.0, false, Some(1.0), false)
            }
            // libtorch's own attention draws numbers that depend on its shape.
            Some(_) => {
                let weights = (query.matmul(&key.transpose(-1, -2)) + bias).softmax(-1, query.kind());
                self.dropout.weights(&weights).matmul(&value)
            }
        };
        context.transpose(1, 2).reshape(self.query.size())
    }

    /// `[runs * heads, rows * length, 2 length]`: the product of each position of `content` with each distance.
    fn by_distance(&self, content: &Tensor, distances: &Tensor) -> Tensor {
        let (runs, heads) = (self.dropout.runs(), self.heads);
        let content = content.view([runs, content.size()[0] / runs, heads, -1]).transpose(1, 2);
        let distances = distances.view([runs, distances.size()[0] / runs, heads, -1]).permute([0, 2, 3, 1]);
        content.matmul(&distances).flatten(0, 1)
    }
}

/// The distances the other way round, from `length - 1` down; the last, which no pair has, stays last.
fn from_last(distances: &Tensor, runs: i64) -> Tensor {
    let stack = distances.view([runs, distances.size()[0] / runs, -1]);
    let count = stack.size()[1] - 1;
    Tensor::cat(&[stack.narrow(1, 0, count).flip([1]), stack.narrow(1, count, 1)], 1).flatten(0, 1)
}

/// What is added to the scores, `[runs * rows, heads, length, length]`: the two products by distance
/// (`[runs * heads, rows * length, 2 length]`), and the mask (`[runs * rows, 1, 1, length]`).
fn position_bias(content: &Tensor, position: &Tensor, mask: &Tensor) -> Tensor {
    let (rows, _, _, length) = mask.size4().unwrap_or_default();
    let runs = rows * length / content.size()[1];
    if kernels::serve(content) && runs == 1 {
        return taken(|out| {
            let functions = cuda::functions()?;
            let call = functions.position_bias;
            // SAFETY: the tensors outlive the call.
            cuda::checked(functions, unsafe { call(pointer(content), pointer(position), pointer(mask), out) })
        });
    }
    let [content, position] = [content, position].map(|products| shifted(products, runs, rows / runs, length));
    content + position.transpose(-1, -2) + mask.to_kind(position.kind())
}

/// `[runs * rows, heads, length, length]`: for each position i of products `[runs * heads, rows * length, 2 length]` those
/// with the distances `length - 1 - i + j`. Every row begins one place earlier than the one before, which is a view.
fn shifted(products: &Tensor, runs: i64, rows: i64, length: i64) -> Tensor {
    let (all, width) = (products.size()[0], 2 * length);
    let flat = products.view([all, rows, length * width]);
    let rows_apart = flat.narrow(2, length - 1, length * (width - 1)).view([runs, all / runs, rows, length, width - 1]);
    rows_apart.narrow(4, 0, length).transpose(1, 2).reshape([runs * rows, all / runs, length, length])
}
