//! A run that was made elsewhere: everything that is known of it. What is not known is not stated, and is compared with nothing.

use serde::{Deserialize, Serialize};

use crate::plan::spec::{DataSpec, Precision, content_id};

/// Specification of a run that another program made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalSpec {
    /// Tells this file from that of a run that was made here.
    pub origin: Elsewhere,
    /// Task name, e.g. `rte`.
    pub task: String,
    /// Method name, lower-case letters, digits and `_`.
    pub method: String,
    /// Seed by which it is paired with others.
    pub seed: u64,
    /// Name of the method in tables; not part of the id.
    pub title: String,
    /// Text on where it comes from, e.g. program and commit; not part of the id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Rows that it was scored on.
    pub data: DataSpec,
    /// Backbone.
    #[serde(default)]
    pub backbone: StatedBackbone,
    /// Training.
    #[serde(default)]
    pub train: StatedTraining,
    /// Parameter counts; not part of the id.
    #[serde(default)]
    pub parameters: StatedParameters,
    /// Options of the method, as far as they are stated.
    #[serde(default)]
    pub options: toml::Table,
}

/// Origin of every [`ExternalSpec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Elsewhere {
    /// Made by another program.
    External,
}

/// Backbone by name and weights, either of them empty where it is not stated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatedBackbone {
    /// Name for tables.
    pub name: String,
    /// sha256 of its weights, as [`crate::plan::spec::BackboneSpec::weights_sha256`].
    pub weights_sha256: String,
}

/// Settings of a training as far as they are stated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatedTraining {
    /// Passes over the training rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
    /// Rows of one step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// Peak learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Number format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
}

/// Parameter counts as far as they are stated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StatedParameters {
    /// Trained values but the head's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocated: Option<i64>,
    /// Those left after pruning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<i64>,
}

impl ExternalSpec {
    /// Content id, in the form of [`crate::plan::spec::RunSpec::id`]: of what tells one setting from another.
    pub fn id(&self) -> String {
        // A name tells backbones apart only where their weights are not known.
        let name = if self.backbone.weights_sha256.is_empty() { self.backbone.name.clone() } else { String::new() };
        let backbone = StatedBackbone { name, ..self.backbone.clone() };
        let (title, source, parameters) = Default::default();
        let identity = ExternalSpec { title, source, parameters, backbone, ..self.clone() };
        let canonical = serde_json::to_string(&identity).unwrap_or_default();
        content_id(&self.task, &self.method, self.seed, &canonical)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use datasets::split::Policy;

    /// A run of `mine` on RTE of which nothing is known.
    pub fn external() -> ExternalSpec {
        let data = DataSpec { source: "glue".into(), sha256: "cd".into(), split: Policy::Sora, train_limit: None };
        ExternalSpec {
            origin: Elsewhere::External,
            task: "rte".into(),
            method: "mine".into(),
            seed: 0,
            title: "Mine".into(),
            source: String::new(),
            data,
            backbone: StatedBackbone::default(),
            train: StatedTraining::default(),
            parameters: StatedParameters::default(),
            options: toml::Table::new(),
        }
    }

    #[test]
    fn the_id_is_that_of_the_setting_and_not_of_names_and_counts() {
        let run = external();
        let id = run.id();
        assert!(id.starts_with("rte-mine-s0-") && id.len() == "rte-mine-s0-".len() + 10, "{id}");
        let parameters = StatedParameters { allocated: Some(8), effective: None };
        let named = ExternalSpec { title: "Other".into(), source: "there".into(), parameters, ..run.clone() };
        assert_eq!(named.id(), id);
        let train = StatedTraining { lr: Some(1e-3), ..StatedTraining::default() };
        assert_ne!(ExternalSpec { train, ..run }.id(), id);
    }
}
