//! What people see: the table as Markdown, LaTeX and CSV from runs made up here, the gate's text, the help.

mod support;

use harness::gate::{BaselineRow, compare};
use harness::record::{DevSetResult, Outcome, Parameters};
use harness::report;
use harness::spec::RunSpec;
use harness::store::{RunRecord, Status};
use support::World;

/// A run of RTE with MiniLM whose numbers are given.
fn run(method: &str, seed: u64, status: Status) -> RunRecord {
    let spec = format!(
        r#"task = "rte"
method = "{method}"
seed = {seed}
backbone = {{ name = "all-MiniLM-L6-v2", sha256 = "ab", tokenizer = "fast" }}
data = {{ source = "micro", sha256 = "cd", split = "official" }}
options = {{ r = 8 }}
[train]
epochs = 3
batch_size = 8
lr = 1e-3
warmup_ratio = 0.06
weight_decay = 0.01
decay_order = "before"
max_grad_norm = 1.0
max_length = 64
padding = {{ bucket = 4 }}
order = "random"
evaluate = {{ epochs = 1 }}
train_head = true
precision = "fp32"
device = "cpu""#
    );
    let spec: RunSpec = toml::from_str(&spec).unwrap();
    let (epochs, evals, ranks) = Default::default();
    RunRecord { id: format!("rte-{method}-s{seed}-0123456789"), spec, manifest: None, status, epochs, evals, ranks }
}

fn done(accuracy: f64, effective: i64, collapse: &[&str]) -> Status {
    let result = DevSetResult {
        dev_set: "dev".into(),
        selected_step: 96,
        selection_metric: "accuracy".into(),
        selection_value: accuracy,
        test: vec![("accuracy".into(), accuracy)],
        test_examples: 128,
    };
    let parameters =
        Parameters { allocated: 332_064, effective, as_published: 250_000, head: 148_610, full: 22_713_986 };
    let collapse = collapse.iter().map(ToString::to_string).collect();
    Status::Done(Box::new(Outcome { results: vec![result], parameters, steps: 96, wall_seconds: 12.0, collapse }))
}

fn runs() -> Vec<RunRecord> {
    vec![
        run("lora", 0, done(0.75, 331_776, &[])),
        run("lora", 21, done(0.71875, 331_776, &[])),
        run("adalora", 0, done(0.5, 223_488, &["every prediction on dev is 1"])),
        run("adalora", 21, Status::Failed("the loss is not finite in epoch 1; a smaller lr than 0.1 may help".into())),
        run("sora", 0, done(0.703125, 215_552, &[])),
        run("sora", 21, Status::Unfinished),
    ]
}

#[test]
fn table1() {
    let dir = tempfile::tempdir().unwrap();
    report::write(&runs(), &[], dir.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    insta::assert_snapshot!("table1.md", read("table1.md"));
    insta::assert_snapshot!("table1.tex", read("table1.tex"));
    insta::assert_snapshot!("table1.csv", read("table1.csv"));
    assert!(read("table1.md").contains("SYNTHETIC"), "a table from synthetic data must say so");
}

#[test]
fn a_closed_gate() {
    let row = |metric: &str, value: f64, tolerance: f64| BaselineRow {
        task: "rte".into(),
        method: "sora".into(),
        seed: Some(0),
        metric: metric.into(),
        value,
        tolerance,
    };
    let before =
        [row("dev/accuracy", 0.75, 0.023), row("parameters/effective", 215_552.0, 0.0), row("task_loss", 0.5, 0.03)];
    let now = [
        row("dev/accuracy", 0.5, 0.023),
        row("parameters/effective", 215_552.0, 0.0),
        row("parameters/head", 1.0, 0.0),
    ];
    insta::assert_snapshot!("closed_gate", compare(&before, &now).to_string());
}

#[test]
fn help() {
    let output = World::new().rankbench(&["--help"]).output().unwrap();
    insta::assert_snapshot!("help", String::from_utf8_lossy(&output.stdout));
}
