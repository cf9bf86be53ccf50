//! One run, fully resolved: everything that determines its result, and nothing else. Its hash is the run's id.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Version of the arithmetic: raised with every change of which CHANGELOG says "numbers may change: yes", so that a run made before
/// such a change is another run.
pub const NUMERICS: u32 = 1;

/// Everything that determines the result of one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// [`NUMERICS`] of the program that makes the run; 0 in what older ones stored.
    #[serde(default)]
    pub numerics: u32,
    /// Task name, e.g. `rte`.
    pub task: String,
    /// Method name, e.g. `sora`.
    pub method: String,
    /// Master seed; named streams (head, adapter, order, dropout) are derived from it.
    pub seed: u64,
    /// Text that its recipe gave its setting, e.g. `r=4`; not part of its id.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// Backbone.
    pub backbone: BackboneSpec,
    /// Data.
    pub data: DataSpec,
    /// Training protocol.
    pub train: TrainSpec,
    /// Options of the method, resolved (every option present).
    pub options: toml::Table,
}

/// Which backbone, by name and by content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackboneSpec {
    /// Name for tables, e.g. `all-MiniLM-L6-v2`.
    pub name: String,
    /// sha256 of the weight file; of the list of its parts' sums where there are several. Backbones are compared by it.
    #[serde(default)]
    pub weights_sha256: String,
    /// sha256 of the weights, configuration and tokenizer together.
    pub sha256: String,
    /// How the tokenizer reads: two behaviours give other ids (spec §4.2).
    pub tokenizer: datasets::tokenizer::Behaviour,
}

/// Which rows, by name and by content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// `micro` (synthetic), `glue` (real, every file as in the lock), `glue-unlocked` (real, another file) or `own` (the
    /// user's own task).
    pub source: String,
    /// sha256 over the task's rows in order; for the user's own task over its files and rows.
    pub sha256: String,
    /// How rows become train, validation and test.
    pub split: datasets::split::Policy,
    /// Most training rows used, the first ones after the split; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<usize>,
}

/// Training protocol, shared by every method of a recipe unless a method or task overrides it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Passes over the training rows.
    pub epochs: usize,
    /// Rows of one step.
    pub batch_size: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of the steps that warm the rate up.
    pub warmup_ratio: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Whether decay comes before the Adam update (torch) or after it (transformers 4).
    pub decay_order: methods::optim::config::DecayOrder,
    /// Bound of the joint gradient norm.
    pub max_grad_norm: f64,
    /// Longest input in tokens.
    pub max_length: usize,
    /// How batches are padded.
    pub padding: datasets::batch::Padding,
    /// Which rows come together in a batch.
    pub order: Order,
    /// When to evaluate.
    pub evaluate: EvaluateEvery,
    /// Whether pooler and classifier are trained (usual) or stay as initialised (SoRA as released).
    pub train_head: bool,
    /// Number format of weights and activations.
    pub precision: Precision,
    /// Device the result was made on: `cpu` or `cuda`; results differ in rounding between them.
    pub device: String,
    /// Stages after the first, for a method whose schedule has some (SoRA's `xi_schedule`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stages: Option<Stages>,
}

/// Stages of a sparsifying schedule (spec §3.9). The first has the run's `epochs` and is selected as any run; every later one goes on
/// from the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    /// How many, the first among them; the method's own number.
    pub count: usize,
    /// Passes over the training rows in each after the first.
    pub epochs: usize,
    /// Learning rate after the first.
    pub rate: StageRate,
}

/// Learning rate of the stages after the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageRate {
    /// 0, as in the released code: its schedules were built for the first stage.
    Released,
    /// A fresh warm-up and decay in every stage.
    Rewarm,
}

/// Which rows come together in a batch; a new draw every epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Any: a random permutation, as in the releases.
    Random,
    /// Rows of about the same length: a random permutation is sorted by length in windows of a few batches, and the
    /// batches are shuffled. Less padding, other batches.
    Grouped,
}

/// When a run is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EvaluateEvery {
    /// After every so many epochs.
    Epochs(usize),
    /// After every so many optimiser steps; with none in the whole run, once at its end.
    Steps(usize),
}

/// Number format of the frozen weights and of activations. Trained values are always float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats everywhere: the reference.
    Fp32,
    /// 32-bit floats, matrix products in TF32 on a GPU.
    Tf32,
    /// bfloat16 backbone and activations; head, loss, trained values and optimisers in float32.
    Bf16,
}

impl Precision {
    /// Name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Fp32 => "fp32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        }
    }
}

/// Content id of a run, from the canonical JSON of its setting.
pub(crate) fn content_id(task: &str, method: &str, seed: u64, canonical: &str) -> String {
    let digest = hex::encode(Sha256::digest(canonical.as_bytes()));
    format!("{task}-{method}-s{seed}-{}", &digest[..10])
}

impl RunSpec {
    /// Content id: `<task>-<method>-s<seed>-` and the first 10 hexadecimal digits of the sha256 of the canonical JSON, in which
    /// the backbone has no name, since the same weights are the same backbone, and the run no label.
    pub fn id(&self) -> String {
        let backbone = BackboneSpec { name: String::new(), ..self.backbone.clone() };
        let canonical =
            serde_json::to_string(&RunSpec { backbone, label: String::new(), ..self.clone() }).unwrap_or_default();
        content_id(&self.task, &self.method, self.seed, &canonical)
    }

    /// Text that runs which differ in their seed only have in common.
    pub fn setting(&self) -> String {
        serde_json::to_string(&RunSpec { seed: 0, ..self.clone() }).unwrap_or_default()
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// One epoch in float32 on a CPU.
    pub fn train_spec(batch_size: usize, order: Order) -> TrainSpec {
        TrainSpec {
            epochs: 1,
            batch_size,
            lr: 1.0,
            warmup_ratio: 0.0,
            weight_decay: 0.0,
            decay_order: methods::optim::config::DecayOrder::Before,
            max_grad_norm: 1.0,
            max_length: 64,
            padding: datasets::batch::Padding::Bucket(1),
            order,
            evaluate: EvaluateEvery::Epochs(1),
            train_head: true,
            precision: Precision::Fp32,
            device: "cpu".into(),
            stages: None,
        }
    }

    /// A run of a method with its defaults.
    pub fn run_spec(method: &str) -> RunSpec {
        RunSpec {
            numerics: NUMERICS,
            task: "rte".into(),
            method: method.into(),
            seed: 0,
            label: String::new(),
            backbone: BackboneSpec {
                name: "tiny".into(),
                weights_sha256: "ab".into(),
                sha256: "cd".into(),
                tokenizer: datasets::tokenizer::Behaviour::Fast,
            },
            data: DataSpec {
                source: "micro".into(),
                sha256: "ef".into(),
                split: datasets::split::Policy::Official,
                train_limit: None,
            },
            train: train_spec(8, Order::Random),
            options: methods::registry::find(method).unwrap().options(&toml::Table::new()).unwrap(),
        }
    }
}
