//! Tensors of the backbone that are trained themselves: what full fine-tuning and BitFit have in common.

use std::collections::BTreeMap;

use encoders::Attach;
use tch::Tensor;

use crate::method::Context;
use crate::params::{Builder, GroupKind, Slot, Views};

/// Which tensors of the backbone are trained, and where they lie among the parameters.
pub struct TrainedWeights {
    names: Vec<String>,
    slots: Vec<Option<Slot>>,
    count: i64,
}

/// The trained tensors of one step in place of the backbone's own.
pub struct Replaced(Vec<Option<Tensor>>);

impl Attach for Replaced {
    fn weight(&self, index: usize) -> Option<&Tensor> {
        self.0.get(index)?.as_ref()
    }
}

impl Replaced {
    /// From the tensors of a file, by name.
    pub fn read(backbone: &[(String, Tensor)], stored: &BTreeMap<String, Tensor>) -> Self {
        let in_place = |(name, own): &(String, Tensor)| Some(stored.get(name)?.to_device(own.device()));
        Replaced(backbone.iter().map(in_place).collect())
    }
}

impl TrainedWeights {
    /// Adds every tensor of the backbone whose name `is_trained` accepts, at its pre-trained value. Biases and the
    /// weights of LayerNorms are not decayed, as in the trainers of transformers.
    pub fn build(params: &mut Builder, context: &Context, is_trained: impl Fn(&str) -> bool) -> Self {
        let mut count = 0;
        let mut add = |(name, value): &(String, Tensor)| {
            if !is_trained(name) {
                return None;
            }
            count += value.numel() as i64;
            let is_undecayed = name.ends_with(".bias") || name.contains("LayerNorm");
            let group = if is_undecayed { GroupKind::Undecayed } else { GroupKind::Decayed };
            Some(params.add(group, name.as_str(), value))
        };
        let slots = context.backbone.iter().map(&mut add).collect();
        TrainedWeights { names: context.backbone.iter().map(|(name, _)| name.clone()).collect(), slots, count }
    }

    /// What stands in place of the backbone's tensors in one step.
    pub fn attach(&self, views: &Views) -> Box<dyn Attach> {
        let view = |slot: &Option<Slot>| slot.map(|slot| views.get(slot).shallow_clone());
        Box::new(Replaced(self.slots.iter().map(view).collect()))
    }

    /// The trained tensors by their Hugging Face name.
    pub fn tensors(&self, views: &Views) -> Vec<(String, Tensor)> {
        let named = self.names.iter().zip(&self.slots);
        named.filter_map(|(name, slot)| Some((name.clone(), views.get((*slot)?).shallow_clone()))).collect()
    }

    /// Trained values.
    pub fn count(&self) -> i64 {
        self.count
    }
}
