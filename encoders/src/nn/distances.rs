//! Relative embeddings of the distances between tokens.

use std::rc::Rc;

use tch::Tensor;
use torch_ext::ops::dropout::Dropout;

/// Rows of the relative embeddings that the distances of a length reach.
pub(crate) struct Reach {
    /// First row.
    pub first: i64,
    /// Number of rows.
    pub count: i64,
    /// Row, counted from the first, for the distances `1 - length` to `length - 1`, and once more the last, so that the
    /// products have an aligned width: `[2 length]`. `None` where every distance has a row of its own, in this order.
    pub buckets: Option<Tensor>,
}

/// Relative embeddings as one layer takes them.
pub(crate) struct Distances {
    /// Those within reach, for every run: `[runs * count, hidden]`.
    pub rows: Tensor,
    /// The rows' places.
    pub reach: Rc<Reach>,
}

impl Distances {
    /// The embedding of every distance for every run, `[runs * 2 length, hidden]`.
    pub fn embeddings(&self) -> Tensor {
        self.of_rows(&self.rows)
    }

    /// [`Distances::embeddings`] of which a branch drops some: by row, so that distances of one row lose the same values,
    /// and alike in every part of a step.
    pub fn dropped(&self, dropout: Dropout) -> Tensor {
        self.of_rows(&dropout.shared(&self.rows, self.reach.count, self.reach.first))
    }

    fn of_rows(&self, rows: &Tensor) -> Tensor {
        let Some(buckets) = &self.reach.buckets else { return rows.shallow_clone() };
        rows.unflatten(0, [-1, self.reach.count]).index_select(1, buckets).flatten(0, 1)
    }
}
