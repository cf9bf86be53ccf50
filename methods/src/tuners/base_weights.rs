//! Tensors of the backbone that are trained themselves: what full fine-tuning and BitFit have in common.

use std::collections::BTreeMap;

use encoders::Attach;
use tch::Tensor;

use crate::adapter::counts::Counts;
use crate::method::{Context, Method};
use crate::optim::params::{ParamGroup, ParamId, ParamViews, Params, ParamsBuilder};

/// A method that trains tensors of the backbone and attaches nothing: which they are, and where they lie among the
/// parameters.
pub struct BaseWeights {
    method: &'static str,
    file_kind: &'static str,
    names: Vec<String>,
    slots: Vec<Option<ParamId>>,
    count: i64,
}

/// The trained tensors of one step in place of the backbone's own.
pub struct ReplacedWeights(Vec<Option<Tensor>>);

impl Attach for ReplacedWeights {
    fn weight(&self, index: usize) -> Option<&Tensor> {
        self.0.get(index)?.as_ref()
    }
}

impl ReplacedWeights {
    /// From the tensors of a file, by name.
    pub fn read(backbone: &[(String, Tensor)], stored: &BTreeMap<String, Tensor>) -> Self {
        let in_place = |(name, _): &(String, Tensor)| stored.get(name).map(Tensor::shallow_clone);
        ReplacedWeights(backbone.iter().map(in_place).collect())
    }
}

impl BaseWeights {
    /// Adds every tensor of the backbone whose name `is_trained` accepts, at its pre-trained value. Biases and the
    /// weights of LayerNorms are not decayed, as in the trainers of transformers.
    pub fn build(
        method: &'static str,
        file_kind: &'static str,
        params: &mut ParamsBuilder,
        context: &Context,
        is_trained: impl Fn(&str) -> bool,
    ) -> Self {
        let mut count = 0;
        let mut add = |(name, value): &(String, Tensor)| {
            if !is_trained(name) {
                return None;
            }
            count += value.numel() as i64;
            let is_undecayed = name.ends_with(".bias") || name.to_lowercase().contains("norm.");
            let group = if is_undecayed { ParamGroup::Undecayed } else { ParamGroup::Decayed };
            Some(params.add(group, name.as_str(), value))
        };
        let slots = context.backbone.iter().map(&mut add).collect();
        let names = context.backbone.iter().map(|(name, _)| name.clone()).collect();
        BaseWeights { method, file_kind, names, slots, count }
    }
}

impl Method for BaseWeights {
    fn name(&self) -> &'static str {
        self.method
    }

    fn attach(&self, views: &ParamViews) -> Box<dyn Attach> {
        let view = |slot: &Option<ParamId>| slot.map(|slot| views.get(slot).shallow_clone());
        Box::new(ReplacedWeights(self.slots.iter().map(view).collect()))
    }

    fn tensors(&self, views: &ParamViews) -> Vec<(String, Tensor)> {
        let named = self.names.iter().zip(&self.slots);
        named.filter_map(|(name, slot)| Some((name.clone(), views.get((*slot)?).shallow_clone()))).collect()
    }

    fn file_kind(&self) -> &'static str {
        self.file_kind
    }

    fn counts(&self, _params: &Params) -> Counts {
        Counts::dense(self.count)
    }
}
