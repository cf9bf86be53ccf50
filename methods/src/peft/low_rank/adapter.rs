//! A trained low-rank adapter.

use std::collections::BTreeMap;

use encoders::{Attach, Encoder, TargetModule};
use tch::{Device, Tensor};

use crate::adapter::bias::Bias;
use crate::adapter::lora_layer::{LoraLayer, LoraLayers, LoraWeights};
use crate::error::{Error, Result};
use crate::peft::config::{self, BranchSize};
use crate::peft::files::PeftFiles;
use crate::peft::format::{TrainedAdapter, check_tensors, is_weight};

/// `peft_type` as written.
pub(crate) const TYPE: &str = "LORA";

/// Plain low-rank branches, the head, and tensors of the backbone that were saved beside them.
#[derive(Default)]
pub struct LowRankAdapter {
    /// Factors by module path; a module of rank 0 is not there, unless all are.
    pub factors: BTreeMap<String, LoraWeights>,
    /// Every other tensor by its Hugging Face name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Dropout that the branches' inputs were trained with.
    pub lora_dropout: f64,
    /// Which biases among the tensors were trained.
    pub bias: Bias,
    /// Notes on an adapter that was read, a line each.
    pub notes: Vec<String>,
}

impl LowRankAdapter {
    /// The adapters of `modules` folded into plain LoRA factors, with the trained biases and the head.
    pub fn folded(modules: &[TargetModule], adapters: &LoraLayers, head: BTreeMap<String, Tensor>) -> Self {
        let mut factors: BTreeMap<String, LoraWeights> = adapters
            .attached(modules)
            .map(|(module, adapter)| (module.path.clone(), adapter.to_lora()))
            .filter(|(_, factors)| factors.rank() > 0)
            .collect();
        // PEFT takes no adapter without a module: where everything is pruned, one module has a component of zeros.
        if let Some(module) = modules.first().filter(|_| factors.is_empty()) {
            factors.insert(module.path.clone(), LoraWeights::zeros(module));
        }
        let biases = adapters.weights.values().map(|(name, bias)| (name.clone(), bias.shallow_clone()));
        let tensors = head.into_iter().chain(biases).collect();
        LowRankAdapter { factors, tensors, lora_dropout: adapters.dropout, bias: adapters.bias, notes: Vec::new() }
    }

    /// Name in a file: what belongs to a linear with a branch is its `base_layer`'s.
    fn peft_name(&self, name: &str) -> String {
        match name.rsplit_once('.') {
            Some((module, part)) if self.factors.contains_key(module) => format!("{module}.base_layer.{part}"),
            _ => name.to_string(),
        }
    }

    /// The adapters at `modules`; modules without factors get none.
    pub fn adapters(&self, modules: &[TargetModule]) -> LoraLayers {
        let at = |module: &TargetModule| self.factors.get(&module.path).map(LoraWeights::adapter);
        LoraLayers::new(modules.iter().map(at).collect::<Vec<Option<LoraLayer>>>())
    }
}

impl TrainedAdapter for LowRankAdapter {
    fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn write(&self, base_model: &str) -> Result<PeftFiles> {
        let size = |factors: &LoraWeights| BranchSize { rank: factors.rank(), scale: factors.scale };
        let branches = self.factors.iter().map(|(path, factors)| (path.as_str(), size(factors))).collect();
        let mut config = config::written(TYPE, base_model, &branches, &self.tensors);
        config["use_dora"] = self.factors.values().any(|factors| factors.magnitude.is_some()).into();
        config["lora_dropout"] = self.lora_dropout.into();
        config["bias"] = self.bias.name().into();
        let factors = self.factors.iter().flat_map(|(path, factors)| {
            let parts = [
                ("A.weight", Some(&factors.a)),
                ("B.weight", Some(&factors.b)),
                ("magnitude_vector", factors.magnitude.as_ref()),
            ];
            let named = |(part, tensor): (&str, Option<&Tensor>)| {
                tensor.map(|tensor| (format!("{path}.lora_{part}"), tensor.shallow_clone()))
            };
            parts.into_iter().filter_map(named).collect::<Vec<_>>()
        });
        let others = self.tensors.iter().map(|(name, tensor)| (self.peft_name(name), tensor.shallow_clone()));
        PeftFiles::new(config, factors.chain(others))
    }

    fn check(&self, encoder: &dyn Encoder) -> Result<()> {
        let modules = &encoder.info().target_modules;
        let fits = |path: &str, factors: &LoraWeights| {
            let widths = (factors.a.size()[1], factors.b.size()[0]);
            modules.iter().any(|module| module.path == path && (module.d_in, module.d_out) == widths)
        };
        if let Some((path, _)) = self.factors.iter().find(|(path, factors)| !fits(path, factors)) {
            return Err(Error::OtherBackbone { name: path.clone() });
        }
        check_tensors(&self.tensors, encoder, |name, tensor| is_weight(encoder, name, tensor))
    }

    fn attachment(&self, encoder: &dyn Encoder, device: Device) -> Result<Box<dyn Attach>> {
        let modules = &encoder.info().target_modules;
        let at = |module: &TargetModule| Some(self.factors.get(&module.path)?.to_device(device).adapter());
        let mut adapters = LoraLayers::new(modules.iter().map(at).collect());
        let saved = |(index, (name, _)): (usize, &(String, Tensor))| {
            Some((index, (name.clone(), self.tensors.get(name)?.to_device(device))))
        };
        adapters.weights = encoder.info().weights.iter().enumerate().filter_map(saved).collect();
        Ok(Box::new(adapters))
    }

    fn merge(&self, model: &mut BTreeMap<String, Tensor>) -> Result<()> {
        for (module, factors) in &self.factors {
            if let Some(weight) = model.get_mut(&format!("{module}.weight")) {
                *weight = factors.merged(weight);
            }
        }
        Ok(())
    }
}
