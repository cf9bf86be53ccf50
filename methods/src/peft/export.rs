//! LoraLayers in PEFT's file layout: `adapter_model.safetensors` and `adapter_config.json`. Every low-rank
//! method is written as plain LoRA (pruned, gate folded into A), so whatever reads PEFT can load it. What full
//! fine-tuning, BitFit and the bottleneck adapter train is written by name under a `peft_type` of our own.

use std::collections::BTreeMap;
use std::path::Path;

use encoders::TargetModule;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use crate::adapter::lora_layer::{LoraLayer, LoraLayers, LoraWeights};
use crate::error::{Error, Result};
use crate::method::Method;
use crate::optim::params::ParamViews;

/// What PEFT puts before every name.
pub(crate) const PREFIX: &str = "base_model.model.";

/// An adapter as files hold it.
pub struct Exported {
    /// Factors by module path; a module of rank 0 is not there, unless all are.
    pub factors: BTreeMap<String, LoraWeights>,
    /// Every other tensor by its Hugging Face name: the head, and what a method trains that is no low-rank factor.
    pub tensors: BTreeMap<String, Tensor>,
    /// `peft_type`: LORA, or a kind that PEFT does not know.
    pub kind: String,
    /// Notes on an adapter that was read, a line each.
    pub notes: Vec<String>,
}

impl Exported {
    /// What a method has trained, its adapters folded into plain LoRA factors, with the head.
    pub fn new(method: &dyn Method, views: &ParamViews, head: BTreeMap<String, Tensor>) -> Self {
        let (modules, adapters) = (method.target_modules(), method.adapters(views));
        let attached = modules.iter().zip(&adapters.modules).filter_map(|(s, a)| a.as_ref().map(|a| (s, a)));
        let mut factors: BTreeMap<String, LoraWeights> = attached
            .map(|(module, adapter)| (module.path.clone(), adapter.to_lora()))
            .filter(|(_, factors)| factors.rank() > 0)
            .collect();
        // PEFT takes no adapter without a module: where everything is pruned, one module has a component of zeros.
        if let Some(module) = modules.first().filter(|_| factors.is_empty()) {
            factors.insert(module.path.clone(), LoraWeights::zeros(module));
        }
        let tensors = method.tensors(views).into_iter().chain(head).collect();
        Exported { factors, tensors, kind: method.file_kind().into(), notes: Vec::new() }
    }

    /// The adapters at `modules`; modules without factors get none.
    pub fn adapters(&self, modules: &[TargetModule]) -> LoraLayers {
        let at = |module: &TargetModule| self.factors.get(&module.path).map(LoraWeights::adapter);
        LoraLayers::new(modules.iter().map(at).collect::<Vec<Option<LoraLayer>>>())
    }

    /// `adapter_model.safetensors` as bytes.
    ///
    /// # Errors
    /// A tensor that cannot be serialised.
    pub fn weights(&self) -> Result<Vec<u8>> {
        let factors = self.factors.iter().flat_map(|(path, factors)| {
            let named = [("A", &factors.a), ("B", &factors.b)];
            named.map(|(part, tensor)| (format!("{PREFIX}{path}.lora_{part}.weight"), tensor.shallow_clone()))
        });
        let others = self.tensors.iter().map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor.shallow_clone()));
        safetensors_bytes(&factors.chain(others).collect())
    }

    /// `adapter_config.json`. Ranks and α differ by module, so both are given as patterns; α is `scale * rank`, which makes
    /// PEFT's `α/r` the scale of the run.
    pub fn config(&self, base_model: &str) -> Value {
        let ranks: BTreeMap<&String, i64> = self.factors.iter().map(|(path, f)| (path, f.rank())).collect();
        let alphas: BTreeMap<&String, f64> =
            self.factors.iter().map(|(path, f)| (path, f.scale * f.rank() as f64)).collect();
        let mut saved: Vec<&str> = self.tensors.keys().filter_map(|name| module_to_save(name)).collect();
        saved.dedup();
        json!({
            "peft_type": self.kind,
            "task_type": "SEQ_CLS",
            "base_model_name_or_path": base_model,
            "r": ranks.values().copied().max().unwrap_or(1),
            "lora_alpha": ranks.values().copied().max().unwrap_or(1),
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "use_rslora": false,
            "use_dora": false,
            "inference_mode": true,
            "init_lora_weights": true,
            "target_modules": self.factors.keys().collect::<Vec<_>>(),
            "rank_pattern": ranks,
            "alpha_pattern": alphas,
            "modules_to_save": saved,
        })
    }
}

/// The module PEFT saves for a head tensor: the pooler, ModernBERT's prediction head or the classifier it belongs to.
fn module_to_save(name: &str) -> Option<&str> {
    ["pooler", "head", "classifier"].into_iter().find(|module| name.split('.').any(|part| part == *module))
}

/// Named tensors as the bytes of a safetensors file, float32.
///
/// # Errors
/// A tensor that cannot be serialised.
pub fn safetensors_bytes(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>> {
    let file = Path::new("the safetensors file");
    let stored =
        tensors.iter().map(|(name, tensor)| Ok((name, tensor.size(), bytes(tensor)?))).collect::<Result<Vec<_>>>()?;
    let views = stored.iter().map(|(name, shape, data)| {
        let shape = shape.iter().map(|&n| n as usize).collect();
        Ok((*name, TensorView::new(Dtype::F32, shape, data).map_err(|e| damaged(file, e))?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let metadata = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
    serialize(views, Some(metadata)).map_err(|e| damaged(file, e))
}

fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous().flatten(0, -1);
    let mut bytes = vec![0u8; 4 * flat.numel()];
    flat.f_copy_data_u8(&mut bytes, flat.numel())?;
    Ok(bytes)
}

/// A file of an adapter that cannot be used.
pub(crate) fn damaged(path: &Path, detail: impl ToString) -> Error {
    Error::AdapterFile { path: path.to_path_buf(), detail: detail.to_string() }
}
