//! Options that every method with low-rank branches has beside its own.

use serde::{Deserialize, Serialize};

use crate::adapter::bias::Bias;
use crate::adapter::target_modules::TargetModules;
use crate::bound::{Bound, is_default};

/// Where branches are, the dropout of their input, and what is trained beside them. A key at its default stays out of a run's id: it
/// came after the methods.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BranchOptions {
    /// Linears that get a branch: a list of names as PEFT matches them (`query`, `output.dense`, a whole path) or kinds
    /// (`query`, `attention_output`, `intermediate`, …); every linear of the encoder (`all-linear`) where it is left out.
    #[serde(skip_serializing_if = "is_default")]
    pub target_modules: TargetModules,
    /// Probability that a value of a branch's input is dropped in training, rounded to 1/65536 and at most 65535/65536. Above 0 no
    /// layer is one fused function.
    #[serde(skip_serializing_if = "is_default")]
    pub lora_dropout: f64,
    /// Biases of the backbone that are trained besides, undecayed: none, all, or lora_only, those of the linears with a branch.
    #[serde(skip_serializing_if = "is_default")]
    pub bias: Bias,
}

impl BranchOptions {
    /// Every key.
    pub const KEYS: &'static [&'static str] = &["target_modules", "lora_dropout", "bias"];

    /// The number among them with its bound.
    pub(crate) fn bound(&self) -> Bound {
        Bound::dropout("lora_dropout", self.lora_dropout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_a_key() {
        let text = "target_modules = ['query']\nlora_dropout = 0.5\nbias = 'all'";
        let options: BranchOptions = toml::from_str(text).unwrap();
        let table = toml::Table::try_from(&options).unwrap();
        let mut keys = BranchOptions::KEYS.to_vec();
        keys.sort_unstable();
        assert_eq!(table.keys().map(String::as_str).collect::<Vec<_>>(), keys);
        // A further field would have to be named here.
        let BranchOptions { target_modules: _, lora_dropout: _, bias: _ } = options;
    }
}
