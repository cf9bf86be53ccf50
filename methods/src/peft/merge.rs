//! A backbone with what was trained folded into it: a plain checkpoint, without adapters.

use std::collections::BTreeMap;

use encoders::Encoder;
use encoders::checkpoint::file::is_finite;
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::peft::export::Exported;

impl Exported {
    /// Every tensor of the merged model by its Hugging Face name, float32: `W + ΔW` at the adapted linears, trained
    /// tensors of the backbone in place of its own, and the head.
    ///
    /// # Errors
    /// A bottleneck adapter, which is not linear; an adapter of another backbone; a value that is not finite.
    pub fn merged(&self, encoder: &dyn Encoder) -> Result<BTreeMap<String, Tensor>> {
        if self.kind == "BOTTLENECK" {
            return Err(Error::Unmergeable("a bottleneck adapter is not linear, so no weight can hold it".into()));
        }
        self.check_fits(encoder)?;
        let copied = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.detach().to_kind(Kind::Float).copy());
        let mut merged: BTreeMap<String, Tensor> = encoder.info().weights.iter().map(copied).collect();
        // Tensors of the backbone that the adapter holds come first: ΔW is added to them.
        merged.extend(self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_kind(Kind::Float).copy())));
        for (module, factors) in &self.factors {
            let name = format!("{module}.weight");
            let delta = factors.adapter().delta();
            if let Some(weight) = merged.get_mut(&name) {
                let _ = weight.g_add_(&delta.to_device(weight.device()));
            }
        }
        if let Some((name, _)) = merged.iter().find(|(_, tensor)| !is_finite(tensor)) {
            return Err(Error::Unmergeable(format!("{name} would hold NaN or infinity")));
        }
        Ok(merged)
    }
}
