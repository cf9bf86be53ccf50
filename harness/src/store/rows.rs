//! Rows of a run's files. Training writes them, the report reads them.

use serde::{Deserialize, Serialize};

/// Peak memory of one run alone in MiB, since its start: the allocator's cache is emptied before it. What the device does not have is
/// empty. Runs side by side share one peak.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeakMiB {
    /// Tensors on a GPU; a recorded step's are held as long as the recording.
    pub peak_allocated_mib: Option<f64>,
    /// Memory that the allocator held of a GPU.
    pub peak_reserved_mib: Option<f64>,
    /// Resident set of the process, on a CPU.
    pub peak_resident_mib: Option<f64>,
}

/// One line of `epochs.csv`. Evaluation and checkpointing are outside `seconds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Optimiser steps of the epoch.
    pub steps: usize,
    /// Training time of the epoch in seconds, device synchronised at both ends.
    pub seconds: f64,
    /// Mean task loss over the epoch's steps.
    pub task_loss: f64,
    /// Mean penalty (orthogonality or L1 term) over the epoch's steps; 0 for a method without one.
    pub penalty: f64,
    /// Tokens that are not padding.
    pub tokens: u64,
    /// Tokens with padding.
    pub padded_tokens: u64,
    /// Steps that were recorded in the epoch; 0 without CUDA graphs.
    #[serde(default)]
    pub recordings: usize,
    /// Seconds of `seconds` that recording took.
    #[serde(default)]
    pub recording_seconds: f64,
    /// Peak allocated memory in MiB, from the run's start to the epoch's end ([`PeakMiB`]).
    #[serde(default)]
    pub peak_allocated_mib: Option<f64>,
    /// Peak reserved memory, likewise.
    #[serde(default)]
    pub peak_reserved_mib: Option<f64>,
    /// Peak resident set, likewise.
    #[serde(default)]
    pub peak_resident_mib: Option<f64>,
}

/// One line of `evals.csv`: one metric of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalRow {
    /// Optimiser steps done.
    pub step: usize,
    /// Epochs done, fractional.
    pub epoch: f64,
    /// `validation` (selects) or `test` (is reported).
    pub split: String,
    /// Development set: `dev`, `matched` or `mismatched`.
    pub dev_set: String,
    /// Metric name, e.g. `matthews`; `loss` for the mean task loss.
    pub metric: String,
    /// Its value; metrics are in 0..1 (or -1..1), not percent.
    pub value: f64,
    /// Trained parameters that are not pruned at this step (exact count, head not counted).
    pub effective_parameters: i64,
}

/// One line of `ranks.csv`: one target module at one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankRow {
    /// Optimiser steps done.
    pub step: usize,
    /// Module path of the target module.
    #[serde(rename = "site")]
    pub module: String,
    /// Layer, from 0.
    pub layer: usize,
    /// Kind of the module: `query`, `key`, `value`, `attention_output`, `intermediate`, `output`.
    pub kind: String,
    /// Non-zero components.
    pub rank: i64,
    /// Components at the start.
    pub max_rank: i64,
    /// Mean absolute gate (SoRA) or singular value (AdaLoRA); empty for a method without gates.
    pub mean_abs_gate: Option<f64>,
}

/// One line of `steps.csv`: one of every few steps of a run (`--log-steps`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    /// Optimiser steps done, this one among them.
    pub step: usize,
    /// Epoch of the step, from 1.
    pub epoch: usize,
    /// Task loss of its batch, before the update.
    pub task_loss: f32,
    /// Penalty (orthogonality or L1 term) before the update; 0 for a method without one.
    pub penalty: f32,
    /// Learning rate of its update.
    pub lr: f64,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f32,
    /// Non-zero gates (SoRA) or singular values (AdaLoRA) over all modules after the update; empty for a method without them.
    pub nonzero_components: Option<i64>,
}

/// One line of `gates.csv`: the gate (SoRA) or singular value (AdaLoRA) of one component, at the end of a stage or of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateRow {
    /// Optimiser steps done; after the first of several stages those of its selected checkpoint, from which the later ones go on.
    pub step: usize,
    /// Path of the target module.
    pub module: String,
    /// Layer, from 0.
    pub layer: usize,
    /// Kind of the module: `query`, `key`, `value`, `attention_output`, `intermediate`, `output`.
    pub kind: String,
    /// Component of the module, from 0.
    pub component: usize,
    /// Its gate or singular value; 0 for one that is pruned.
    pub value: f32,
}

/// One line of `predictions.csv`: one example at the selected checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictionRow {
    /// `validation` or `test`.
    pub split: String,
    /// Development set: `dev`, `matched` or `mismatched`.
    pub dev_set: String,
    /// Row in the source file, from 0.
    pub row: usize,
    /// True class id or score.
    pub label: f64,
    /// Predicted class id or score.
    pub prediction: f64,
}

/// One line of `stages.csv`: one development set at the end of one stage of a sparsifying schedule (spec §3.9).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRow {
    /// Stage, from 1.
    pub stage: usize,
    /// Value that the schedule gave it, e.g. SoRA's ξ.
    pub schedule_value: Option<f64>,
    /// Optimiser steps done at the stage's end; the first is scored at its selected checkpoint.
    pub step: usize,
    /// Development set.
    pub dev_set: String,
    /// Metric of the three scores: the one that selects checkpoints.
    pub metric: String,
    /// Score on the memorisation probe, up to 1,000 training rows.
    pub memorisation: f64,
    /// Score on the validation split.
    pub generalisation: f64,
    /// Score on the test split; on the validation split where that is the only one.
    pub test: f64,
    /// Trained adapter values, gates included.
    pub allocated: i64,
    /// Adapter values left after pruning, exact.
    pub effective: i64,
    /// By the authors' own counter.
    pub as_published: i64,
}

/// `outcome.json`: what the run came to. Of a run that was made elsewhere, only its scores and their signs of collapse are known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// One entry a development set.
    pub results: Vec<DevSetResult>,
    /// Parameter counts at the selected checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
    /// Optimiser steps of the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Wall time of the whole run in seconds, everything included; an equal share for each of runs side by side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall_seconds: Option<f64>,
    /// Parts of `wall_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<Seconds>,
    /// Peak memory of the run, evaluation included.
    #[serde(default)]
    pub memory: PeakMiB,
    /// Signs of a collapsed run, in words; empty for a healthy one.
    pub collapse: Vec<String>,
}

/// Parts of a run's wall time in seconds. What several runs use is made once, and counted in the first of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seconds {
    /// Reading the backbone and its copy on the device.
    pub loading: f64,
    /// Reading and tokenising the task's rows.
    pub tokenising: f64,
    /// Recording steps as CUDA graphs.
    pub recording: f64,
    /// Training steps.
    pub training: f64,
    /// Evaluation.
    pub evaluation: f64,
    /// Writing the adapter, the predictions and the counts.
    pub export: f64,
    /// The rest: start values, files of every epoch.
    pub other: f64,
}

impl Seconds {
    /// Every part with its name, in the order of a run.
    pub fn parts(&self) -> [(&'static str, f64); 7] {
        [
            ("loading", self.loading),
            ("tokenising", self.tokenising),
            ("recording", self.recording),
            ("training", self.training),
            ("evaluation", self.evaluation),
            ("export", self.export),
            ("other", self.other),
        ]
    }

    /// With `other` as what is left of `wall`.
    pub fn of_wall(mut self, wall: f64) -> Self {
        self.other = 0.0;
        let known: f64 = self.parts().iter().map(|(_, seconds)| seconds).sum();
        self.other = wall - known;
        self
    }
}

/// Result on one development set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DevSetResult {
    /// `dev`, `matched` or `mismatched`.
    pub dev_set: String,
    /// Step whose checkpoint the selection metric chose on the validation split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected_step: Option<usize>,
    /// Metric that selects the checkpoint.
    pub selection_metric: String,
    /// Its value on the validation split; none where that has no predictions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection_value: Option<f64>,
    /// Every metric on the test split at the selected checkpoint: (name, value in 0..1 or -1..1).
    pub test: Vec<(String, f64)>,
    /// Examples of the test split.
    pub test_examples: usize,
}

/// The three parameter counts (always named) and the head's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Trained adapter values, gates and singular values included.
    pub allocated: i64,
    /// Adapter values left after pruning, exact: sum of rank * (d_in + d_out).
    pub effective: i64,
    /// Parameters by the authors' own counter.
    pub as_published: i64,
    /// Trained values of the head; 0 when it is frozen.
    pub head: i64,
    /// The frozen backbone and the head together: what full fine-tuning would train.
    pub full: i64,
}

/// One line of `timings.csv`: one epoch of the interleaved measurement (`rankbench efficiency`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimingRow {
    /// Method name.
    pub method: String,
    /// Text that tells its setting from others of the method; empty for its only one.
    #[serde(default)]
    pub variant: String,
    /// Task name.
    pub task: String,
    /// Round of the interleaving, from 1: A B C A B C; rows of one round and epoch are a pair.
    pub repeat: usize,
    /// Epoch within the round, from 1, warm-up not counted.
    pub epoch: usize,
    /// Training time of the epoch in seconds, device synchronised at both ends.
    pub seconds: f64,
    /// Part of the method's schedule that the epoch's steps lie in; empty for a method without parts.
    #[serde(default)]
    pub phase: String,
    /// Steps that were recorded in the epoch: with any, its time is left out of the statistics.
    #[serde(default)]
    pub recordings: usize,
    /// Seconds of a fixed float32 product right before the epoch: how fast the machine was then.
    #[serde(default)]
    pub product_seconds: Option<f64>,
    /// Optimiser steps of the epoch.
    pub steps: usize,
    /// Tokens that are not padding.
    pub tokens: u64,
    /// Floating-point operations of the epoch by formula ([`crate::train::operations`]).
    #[serde(default)]
    pub operations: Option<f64>,
    /// Operations a second of a large product in the epoch's number format on this device.
    #[serde(default)]
    pub product_rate: Option<f64>,
    /// Energy of the whole card during the epoch in joules; none where NVML does not count it, and for an epoch below a second.
    #[serde(default)]
    pub joules: Option<f64>,
    /// Peak allocated memory in MiB of the method alone ([`PeakMiB`]).
    #[serde(default)]
    pub peak_allocated_mib: Option<f64>,
    /// Peak reserved memory, likewise.
    #[serde(default)]
    pub peak_reserved_mib: Option<f64>,
    /// Peak resident set, likewise.
    #[serde(default)]
    pub peak_resident_mib: Option<f64>,
    /// Trained adapter values.
    pub allocated: i64,
    /// Adapter values left after pruning at the end of the epoch.
    pub effective: i64,
    /// Rows of one step.
    pub batch_size: usize,
    /// Tokens of one row, padding included; the longest where it varies.
    pub length: usize,
    /// Device in words.
    pub device: String,
    /// GPU driver; empty on a CPU.
    #[serde(default)]
    pub driver: String,
    /// Number format: `fp32`, `tf32`, `bf16`.
    pub precision: String,
}

/// One line of `peer_rounds.csv`: one round of a peer's steps, as `just compare-peers` writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerRound {
    /// Device in words.
    pub device: String,
    /// Number format.
    pub precision: String,
    /// Rows of one step.
    pub batch: usize,
    /// Tokens of one row.
    pub length: usize,
    /// How the peer was set up, e.g. `eager` (as released).
    pub setup: String,
    /// Method name.
    pub method: String,
    /// Round, from 1: peers take turns.
    pub round: usize,
    /// Seconds of one step.
    pub seconds_per_step: f64,
}
