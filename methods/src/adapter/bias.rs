//! Biases of the backbone that are trained beside the branches.

use encoders::TargetModule;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::error::{Error, Result};

/// Which biases of the backbone are trained, as PEFT's `bias`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// No one.
    #[default]
    None,
    /// Every one, those of LayerNorms included.
    All,
    /// Those of the linears that get a branch.
    LoraOnly,
}

impl Bias {
    /// Value in PEFT's files.
    pub fn name(self) -> &'static str {
        match self {
            Bias::None => "none",
            Bias::All => "all",
            Bias::LoraOnly => "lora_only",
        }
    }

    /// Whether it trains the tensor of this name, with branches at `modules`.
    fn trains(self, name: &str, modules: &[TargetModule]) -> bool {
        let Some(path) = name.strip_suffix(".bias") else { return false };
        match self {
            Bias::None => false,
            Bias::All => true,
            Bias::LoraOnly => modules.iter().any(|module| module.path == path),
        }
    }

    /// Refuses a choice that trains nothing.
    ///
    /// # Errors
    /// A backbone whose linears, or those with a branch, have no bias.
    pub(crate) fn check(
        self,
        method: &'static str,
        backbone: &[(String, Tensor)],
        modules: &[TargetModule],
    ) -> Result<()> {
        if self == Bias::None || self.of(backbone, modules).next().is_some() {
            return Ok(());
        }
        Err(Error::DoesNotFit {
            method,
            what: "bias",
            expected: "biases to train".into(),
            got: format!("none for \"{}\"", self.name()),
            help: "leave it out, or choose another backbone".into(),
        })
    }

    /// The trained ones of a backbone, each with its position there.
    pub(crate) fn of<'a>(
        self,
        backbone: &'a [(String, Tensor)],
        modules: &'a [TargetModule],
    ) -> impl Iterator<Item = (usize, &'a (String, Tensor))> {
        backbone.iter().enumerate().filter(move |(_, (name, _))| self.trains(name, modules))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn a_choice_that_trains_nothing_is_refused() {
        let entry = encoders::ENCODERS.iter().find(|entry| entry.model_type == "modernbert").unwrap();
        // Linears without a bias, and norms with one.
        let tiny = entry
            .tiny
            .replace("_bias\": true", "_bias\": false")
            .replace("\"norm_bias\": false", "\"norm_bias\": true");
        let config = encoders::Config::parse(&tiny, Path::new("tiny")).unwrap();
        let encoder = encoders::random(&config, 1, Device::Cpu, Kind::Float).unwrap();
        let check = |bias: Bias| bias.check("lora", &encoder.info().weights, &encoder.info().target_modules);
        assert!(check(Bias::None).is_ok() && check(Bias::All).is_ok());
        let said = check(Bias::LoraOnly).unwrap_err().to_string();
        assert!(said.contains("bias: expected biases to train, got none for \"lora_only\""), "{said}");
    }
}
