//! A trained low-rank adapter.

use std::collections::BTreeMap;

use encoders::{Attach, Encoder, LowRank, TargetModule};
use tch::{Device, Tensor};

use crate::adapter::lora_layer::{LoraLayer, LoraLayers, LoraWeights};
use crate::adapter::replaced::ReplacedWeights;
use crate::error::{Error, Result};
use crate::peft::config::{self, BranchSize};
use crate::peft::files::PeftFiles;
use crate::peft::format::{TrainedAdapter, check_tensors, is_weight};

/// `peft_type` as written.
pub(crate) const TYPE: &str = "LORA";

/// Plain low-rank branches, the head, and tensors of the backbone that were saved beside them.
pub struct LowRankAdapter {
    /// Factors by module path; a module of rank 0 is not there, unless all are.
    pub factors: BTreeMap<String, LoraWeights>,
    /// Every other tensor by its Hugging Face name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Notes on an adapter that was read, a line each.
    pub notes: Vec<String>,
}

impl LowRankAdapter {
    /// The adapters of `modules` folded into plain LoRA factors, with the head.
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
        LowRankAdapter { factors, tensors: head, notes: Vec::new() }
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
        let use_dora = self.factors.values().any(|factors| factors.magnitude.is_some());
        let config = config::written(TYPE, base_model, &branches, use_dora, &self.tensors);
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
        let others = self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
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
        let adapters = LoraLayers::new(modules.iter().map(at).collect());
        let has_weights = encoder.info().weights.iter().any(|(name, _)| self.tensors.contains_key(name));
        if !has_weights {
            return Ok(Box::new(adapters));
        }
        let replaced = ReplacedWeights::read(&encoder.info().weights, &self.tensors, device);
        Ok(Box::new(BranchesAndWeights { adapters, replaced }))
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

/// Low-rank branches, and tensors of the backbone that were saved beside them.
struct BranchesAndWeights {
    adapters: LoraLayers,
    replaced: ReplacedWeights,
}

impl Attach for BranchesAndWeights {
    fn low_rank(&self, module: &TargetModule) -> Option<LowRank<'_>> {
        self.adapters.low_rank(module)
    }

    fn weight(&self, index: usize) -> Option<&Tensor> {
        self.replaced.weight(index)
    }
}
