//! Trained tensors in place of the backbone's own.

use std::collections::BTreeMap;

use encoders::Attach;
use tch::{Device, Tensor};

/// Replacements of one step, in the order of [`encoders::EncoderInfo::weights`].
pub struct ReplacedWeights(pub Vec<Option<Tensor>>);

impl Attach for ReplacedWeights {
    fn weight(&self, index: usize) -> Option<&Tensor> {
        self.0.get(index)?.as_ref()
    }
}

impl ReplacedWeights {
    /// From the tensors of a file, by name.
    pub fn read(backbone: &[(String, Tensor)], stored: &BTreeMap<String, Tensor>, device: Device) -> Self {
        let in_place = |(name, _): &(String, Tensor)| stored.get(name).map(|tensor| tensor.to_device(device));
        ReplacedWeights(backbone.iter().map(in_place).collect())
    }
}
