//! AdaLoRA's importance averages (spec §2.3).

use std::ops::Range;

use tch::Tensor;
use torch_ext::ops::importance::{self, ScoredShape};

use crate::error::Result;
use crate::optim::params::{ParamGroup, ParamId, Params, ParamsBuilder};

/// Smoothed importance and uncertainty of every value of A, B and E (spec §2.3), laid out as the parameters are.
pub(crate) struct Importance {
    /// Where A, B and E of all modules lie in the decayed group.
    range: Range<i64>,
    pub average: Tensor,
    pub uncertainty: Tensor,
}

impl Importance {
    pub fn zeros(range: Range<i64>, params: &ParamsBuilder) -> Self {
        let zeros = || Tensor::zeros([range.end - range.start], params.options());
        Importance { average: zeros(), uncertainty: zeros(), range: range.clone() }
    }

    /// With the updated weight and the step's clipped gradient.
    pub fn update(&self, params: &Params, betas: [f64; 2]) -> Result<()> {
        let Some(group) = params.group(ParamGroup::DECAYED) else {
            return Ok(());
        };
        let part = |of: Tensor| of.narrow(0, self.range.start, self.range.end - self.range.start);
        let (values, grad) = (part(group.flat.detach()), part(group.flat.grad()));
        Ok(importance::update([&values, &grad], [&self.average, &self.uncertainty], betas)?)
    }

    /// Scores of the components of every shape, of which these are A, B and E.
    pub fn scores(&self, params: &Params, shapes: &[[ParamId; 3]]) -> Tensor {
        let rank = shapes.first().map_or(0, |[a, ..]| params.shape(*a)[1]);
        let of_shape = |ids: &[ParamId; 3]| {
            let [a, b, _] = ids.map(|id| params.shape(id));
            let starts = ids.map(|id| params.range(id).start - self.range.start);
            ScoredShape { starts, modules: a[0], widths: [a[2], b[1]] }
        };
        importance::scores([&self.average, &self.uncertainty], &shapes.iter().map(of_shape).collect::<Vec<_>>(), rank)
    }
}
