//! Tensors of the backbone that are trained themselves: the common part of full fine-tuning and BitFit.

use std::collections::BTreeMap;

use encoders::{Attach, Encoder};
use tch::{Device, Tensor};

use crate::adapter::counts::Counts;
use crate::adapter::replaced::ReplacedWeights;
use crate::error::{Error, Result, damaged};
use crate::method::{Context, Method};
use crate::optim::params::{ParamGroup, ParamId, ParamViews, Params, ParamsBuilder};
use crate::peft::config;
use crate::peft::files::{AdapterDir, PeftFiles, PlainTensors};
use crate::peft::format::{AdapterFormat, TrainedAdapter, check_tensors, is_weight};

/// Files of trained tensors of the backbone, by name.
pub struct BaseWeightsFormat {
    /// `peft_type` as written and read.
    pub peft_types: &'static [&'static str],
    /// Which tensors of the backbone are trained, by name: a file must have them all.
    pub is_trained: fn(&str) -> bool,
}

impl AdapterFormat for BaseWeightsFormat {
    fn peft_types(&self) -> &'static [&'static str] {
        self.peft_types
    }

    fn read(&self, files: &AdapterDir) -> Result<Box<dyn TrainedAdapter>> {
        let PlainTensors { path, tensors } = files.plain_tensors()?;
        let adapter = BaseWeightsAdapter { peft_type: self.peft_types[0], tensors };
        adapter.check(files.encoder)?;
        let mut trained = files.encoder.info().weights.iter().filter(|(name, _)| (self.is_trained)(name));
        match trained.find(|(name, _)| !adapter.tensors.contains_key(name)) {
            Some((name, _)) => {
                let detail = format!("missing: {name}, which {} trains; save the adapter again", adapter.peft_type);
                Err(damaged(&path, detail))
            }
            None => Ok(Box::new(adapter)),
        }
    }
}

/// Trained tensors of the backbone, and the head.
pub struct BaseWeightsAdapter {
    /// `peft_type` as written.
    pub peft_type: &'static str,
    /// By Hugging Face name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl TrainedAdapter for BaseWeightsAdapter {
    fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    fn write(&self, base_model: &str) -> Result<PeftFiles> {
        let config = config::written(self.peft_type, base_model, &BTreeMap::new(), &self.tensors);
        PeftFiles::new(config, self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())))
    }

    fn check(&self, encoder: &dyn Encoder) -> Result<()> {
        check_tensors(&self.tensors, encoder, |name, tensor| is_weight(encoder, name, tensor))
    }

    fn attachment(&self, encoder: &dyn Encoder, device: Device) -> Result<Box<dyn Attach>> {
        Ok(Box::new(ReplacedWeights::read(&encoder.info().weights, &self.tensors, device)))
    }

    fn merge(&self, _model: &mut BTreeMap<String, Tensor>) -> Result<()> {
        Ok(())
    }
}

/// A method that trains tensors of the backbone and attaches nothing.
pub struct BaseWeights {
    method: &'static str,
    format: &'static BaseWeightsFormat,
    names: Vec<String>,
    ids: Vec<Option<ParamId>>,
    count: i64,
}

impl BaseWeights {
    /// Adds every tensor of the backbone that the format's files hold, at its pre-trained value. Biases and the weights of
    /// LayerNorms are not decayed, as in the trainers of transformers.
    ///
    /// # Errors
    /// A backbone without any such tensor: nothing but the head would be trained.
    pub fn build(
        method: &'static str,
        format: &'static BaseWeightsFormat,
        params: &mut ParamsBuilder,
        context: &Context,
    ) -> Result<Self> {
        let mut count = 0;
        let mut add = |(name, value): &(String, Tensor)| {
            if !(format.is_trained)(name) {
                return None;
            }
            count += value.numel() as i64;
            let is_undecayed = name.ends_with(".bias") || name.to_lowercase().contains("norm.");
            let group = if is_undecayed { ParamGroup::UNDECAYED } else { ParamGroup::DECAYED };
            Some(params.add(group, name.as_str(), value))
        };
        let ids: Vec<Option<ParamId>> = context.backbone.iter().map(&mut add).collect();
        if count == 0 {
            return Err(Error::DoesNotFit {
                method,
                what: "tensors of the backbone",
                expected: "some that the method trains".into(),
                got: "none".into(),
                help: "nothing but the head would be trained; choose another method or backbone".into(),
            });
        }
        let names = context.backbone.iter().map(|(name, _)| name.clone()).collect();
        Ok(BaseWeights { method, format, names, ids, count })
    }
}

impl Method for BaseWeights {
    fn name(&self) -> &'static str {
        self.method
    }

    fn attach(&self, views: &ParamViews) -> Box<dyn Attach> {
        let view = |id: &Option<ParamId>| id.map(|id| views.get(id).shallow_clone());
        Box::new(ReplacedWeights(self.ids.iter().map(view).collect()))
    }

    fn trained(&self, views: &ParamViews, head: BTreeMap<String, Tensor>) -> Box<dyn TrainedAdapter> {
        let named = self.names.iter().zip(&self.ids);
        let own = named.filter_map(|(name, id)| Some((name.clone(), views.get((*id)?).shallow_clone())));
        let tensors = own.chain(head).collect();
        Box::new(BaseWeightsAdapter { peft_type: self.format.peft_types[0], tensors })
    }

    fn counts(&self, _params: &Params) -> Counts {
        Counts::dense(self.count)
    }
}
