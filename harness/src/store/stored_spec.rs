//! Specification of a stored run, made here or elsewhere.

use datasets::tokenizer::Behaviour;
use serde::Serialize;

use crate::plan::external::ExternalSpec;
use crate::plan::spec::{DataSpec, RunSpec};

/// Specification of a stored run: the content of its `run.toml`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum StoredSpec {
    /// Made by this program, so everything is known.
    Made(RunSpec),
    /// Made by another program (`rankbench add`).
    External(ExternalSpec),
}

/// Key that only the specification of an external run has.
const ORIGIN: &str = "origin";

impl StoredSpec {
    /// Reads the text of a `run.toml`.
    ///
    /// # Errors
    /// A key that is missing, unknown or wrong.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        // Most are made here, and thousands are read: the text is parsed once.
        match toml::from_str(text) {
            Ok(spec) => Ok(StoredSpec::Made(spec)),
            Err(_) if toml::from_str::<toml::Table>(text)?.contains_key(ORIGIN) => {
                Ok(StoredSpec::External(toml::from_str(text)?))
            }
            Err(error) => Err(error),
        }
    }

    /// The specification of a run that was made here.
    pub fn made(&self) -> Option<&RunSpec> {
        match self {
            StoredSpec::Made(spec) => Some(spec),
            StoredSpec::External(_) => None,
        }
    }

    /// The same to be changed.
    pub fn made_mut(&mut self) -> Option<&mut RunSpec> {
        match self {
            StoredSpec::Made(spec) => Some(spec),
            StoredSpec::External(_) => None,
        }
    }

    /// The specification of a run that was made elsewhere.
    pub fn external(&self) -> Option<&ExternalSpec> {
        match self {
            StoredSpec::Made(_) => None,
            StoredSpec::External(spec) => Some(spec),
        }
    }

    /// Content id.
    pub fn id(&self) -> String {
        match self {
            StoredSpec::Made(spec) => spec.id(),
            StoredSpec::External(spec) => spec.id(),
        }
    }

    /// Task name.
    pub fn task(&self) -> &str {
        match self {
            StoredSpec::Made(spec) => &spec.task,
            StoredSpec::External(spec) => &spec.task,
        }
    }

    /// Method name.
    pub fn method(&self) -> &str {
        match self {
            StoredSpec::Made(spec) => &spec.method,
            StoredSpec::External(spec) => &spec.method,
        }
    }

    /// Master seed.
    pub fn seed(&self) -> u64 {
        match self {
            StoredSpec::Made(spec) => spec.seed,
            StoredSpec::External(spec) => spec.seed,
        }
    }

    /// Data.
    pub fn data(&self) -> &DataSpec {
        match self {
            StoredSpec::Made(spec) => &spec.data,
            StoredSpec::External(spec) => &spec.data,
        }
    }

    /// Options of the method.
    pub fn options(&self) -> &toml::Table {
        match self {
            StoredSpec::Made(spec) => &spec.options,
            StoredSpec::External(spec) => &spec.options,
        }
    }

    /// Name of the backbone and sha256 of its weights; empty where they are not stated.
    pub fn backbone(&self) -> (&str, &str) {
        match self {
            StoredSpec::Made(spec) => (&spec.backbone.name, &spec.backbone.weights_sha256),
            StoredSpec::External(spec) => (&spec.backbone.name, &spec.backbone.weights_sha256),
        }
    }

    /// Reading of the vocabulary; none where it is not stated.
    pub fn tokenizer(&self) -> Option<Behaviour> {
        self.made().map(|spec| spec.backbone.tokenizer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::external::tests::external;

    #[test]
    fn an_external_run_comes_back_and_a_slip_in_it_is_named() {
        let text = toml::to_string_pretty(&external()).unwrap();
        assert_eq!(StoredSpec::parse(&text).unwrap(), StoredSpec::External(external()));
        let error = StoredSpec::parse(&text.replace("seed", "sead")).unwrap_err().to_string();
        assert!(error.contains("sead"), "{error}");
    }
}
