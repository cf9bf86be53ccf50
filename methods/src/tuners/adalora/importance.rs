//! AdaLoRA's importance averages (spec §2.3).

use std::ops::Range;

use tch::Tensor;
use torch_ext::ops::importance;

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

    /// The part of a tensor laid out like the averages that belongs to one parameter, in its shape.
    pub fn part(&self, of: &Tensor, params: &Params, slot: ParamId) -> Tensor {
        let range = params.range(slot);
        of.narrow(0, range.start - self.range.start, range.end - range.start).view(params.shape(slot))
    }
}
