//! `adapter_config.json`.

use std::collections::BTreeMap;
use std::path::Path;

use encoders::checkpoint::file::foreign;
use serde_json::{Map, Value, json};
use tch::Tensor;

use crate::error::{Result, damaged};

/// An adapter's configuration, as read.
pub struct PeftConfig(pub(crate) Map<String, Value>);

impl PeftConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// A file that is missing or holds no JSON object.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| damaged(path, e))?;
        if let Some(other) = foreign(&bytes) {
            return Err(damaged(path, format!("{other}; expected a JSON object")));
        }
        serde_json::from_slice(&bytes).map(PeftConfig).map_err(|e| damaged(path, e))
    }

    /// `peft_type`; empty where there is none.
    pub fn peft_type(&self) -> &str {
        self.0.get("peft_type").and_then(Value::as_str).unwrap_or_default()
    }

    /// `peft_type` as it stands in the file.
    pub(crate) fn peft_type_text(&self) -> String {
        let value = self.0.get("peft_type").unwrap_or(&Value::Null);
        value.as_str().map_or_else(|| value.to_string(), str::to_string)
    }
}

/// Rank and scaling of a module's branch.
pub(crate) struct BranchSize {
    pub rank: i64,
    pub scale: f64,
}

/// A configuration as it is written. Ranks and α differ by module, so both are given as patterns; α is `scale * rank`, which
/// makes PEFT's `α/r` the scale of the run.
pub(crate) fn written(
    peft_type: &str,
    base_model: &str,
    branches: &BTreeMap<&str, BranchSize>,
    tensors: &BTreeMap<String, Tensor>,
) -> Value {
    let ranks: BTreeMap<&str, i64> = branches.iter().map(|(path, branch)| (*path, branch.rank)).collect();
    let alphas: BTreeMap<&str, f64> =
        branches.iter().map(|(path, branch)| (*path, branch.scale * branch.rank as f64)).collect();
    let mut saved: Vec<&str> = tensors.keys().filter_map(|name| module_to_save(name)).collect();
    saved.dedup();
    json!({
        "peft_type": peft_type,
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
        "target_modules": ranks.keys().collect::<Vec<_>>(),
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "modules_to_save": saved,
    })
}

/// The module PEFT saves for a head tensor: the pooler, ModernBERT's prediction head or the classifier it belongs to.
fn module_to_save(name: &str) -> Option<&str> {
    ["pooler", "head", "classifier"].into_iter().find(|module| name.split('.').any(|part| part == *module))
}
