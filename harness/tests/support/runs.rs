//! Run records whose numbers are made up, for reports.

use harness::analysis::results::{GroupResults, ResultsFrame};
use harness::plan::origin::RunOrigin;
use harness::plan::spec::{NUMERICS, RunSpec};
use harness::store::record::{Manifest, RunRecord, Status};
use harness::store::rows::{DevSetResult, Outcome, Parameters, PeakMiB, Seconds};
use harness::store::stored_spec::StoredSpec;

/// Weights of DeBERTaV3-base, as published.
pub const DEBERTA: &str = "691d48a2800b926a19e3051def466fc2cca4f59a15e42ce4a0cf7f1b380b5e33";

/// Setting of a made-up run: by default that of AdaLoRA's paper where it states one.
pub struct Setting {
    pub source: &'static str,
    pub split: &'static str,
    pub backbone: &'static str,
    pub weights: &'static str,
    pub tokenizer: &'static str,
    pub epochs: usize,
    pub lr: f64,
    pub precision: &'static str,
    pub options: &'static str,
    pub started: u64,
    pub rule: &'static str,
    pub recipe: &'static str,
    pub device: &'static str,
}

impl Default for Setting {
    fn default() -> Self {
        Setting {
            source: "glue",
            split: "official",
            backbone: "deberta",
            weights: DEBERTA,
            tokenizer: "sentencepiece",
            epochs: 3,
            lr: 1e-3,
            precision: "fp32",
            options: "r = 8",
            started: 1,
            rule: "0000",
            recipe: "made-up",
            device: "some processor",
        }
    }
}

pub fn made_up(setting: &Setting, task: &str, method: &str, seed: u64, status: Status) -> RunRecord {
    let Setting { source, split, backbone, weights, tokenizer, epochs, lr, precision, options, .. } = setting;
    let text = format!(
        r#"numerics = {NUMERICS}
task = "{task}"
method = "{method}"
seed = {seed}
backbone = {{ name = "{backbone}", weights_sha256 = "{weights}", sha256 = "ef", tokenizer = "{tokenizer}" }}
data = {{ source = "{source}", sha256 = "cd", split = "{split}" }}
options = {{ {options} }}
[train]
epochs = {epochs}
batch_size = 32
lr = {lr:?}
warmup_ratio = 0.06
weight_decay = 0.01
decay_order = "before"
max_grad_norm = 1.0
max_length = 64
padding = {{ bucket = 4 }}
order = "random"
evaluate = {{ epochs = 1 }}
train_head = true
precision = "{precision}"
device = "cpu""#
    );
    let spec: RunSpec = toml::from_str(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let (epochs, evals, ranks, stages, predictions) = Default::default();
    let id = format!("{task}-{method}-s{seed}-{}", &spec.id()[spec.id().len() - 10..]);
    RunRecord {
        id,
        spec: StoredSpec::Made(spec),
        manifest: Some(manifest(setting)),
        addition: None,
        status,
        epochs,
        evals,
        ranks,
        stages,
        predictions,
    }
}

fn manifest(setting: &Setting) -> Manifest {
    Manifest {
        rankbench: "0.1.0".into(),
        git_commit: "0123456".into(),
        git_dirty: false,
        cargo_lock_sha256: "ab".into(),
        libtorch: "2.11.0".into(),
        device: setting.device.into(),
        driver: String::new(),
        threads: 1,
        together: 1,
        is_mixed: false,
        micro_batch: None,
        origin: RunOrigin { recipe: setting.recipe.into(), rule: setting.rule.into() },
        files: Vec::new(),
        started_unix: setting.started,
        restarts: 0,
    }
}

/// A finished run with these values: development set, metric, value in 0..1.
pub fn scored(values: &[(&str, &str, f64)], effective: i64, collapse: &[&str]) -> Status {
    let mut results: Vec<DevSetResult> = Vec::new();
    for &(dev_set, metric, value) in values {
        let test = (metric.to_string(), value);
        match results.iter_mut().find(|result| result.dev_set == dev_set) {
            Some(result) => result.test.push(test),
            None => results.push(DevSetResult {
                dev_set: dev_set.into(),
                selected_step: Some(96),
                selection_metric: metric.into(),
                selection_value: Some(value),
                test: vec![test],
                test_examples: 128,
            }),
        }
    }
    let parameters =
        Parameters { allocated: 332_064, effective, as_published: 250_000, head: 148_610, full: 22_713_986 };
    let seconds = Seconds { training: 9.0, evaluation: 2.0, ..Seconds::default() }.of_wall(12.0);
    let collapse = collapse.iter().map(ToString::to_string).collect();
    let (parameters, steps, wall_seconds, seconds) = (Some(parameters), Some(96), Some(12.0), Some(seconds));
    let memory = PeakMiB::default();
    Status::Done(Box::new(Outcome { results, parameters, steps, wall_seconds, seconds, memory, collapse }))
}

/// Fails unless two numbers agree to nine digits.
pub fn close(actual: f64, expected: f64) {
    assert!((actual - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{actual} is not {expected}");
}

/// The only group of some runs.
pub fn group(runs: &[RunRecord]) -> GroupResults {
    let mut groups = ResultsFrame::of_records(runs).groups;
    assert_eq!(groups.len(), 1);
    groups.remove(0)
}
