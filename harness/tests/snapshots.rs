//! Texts that people see: the table as Markdown, LaTeX and CSV from runs made up here, a failed baseline check, the help.

mod support;

use harness::analysis::baseline::{BaselineRow, compare};
use harness::analysis::results::ResultsFrame;
use harness::report::baseline::text;
use harness::report::write;
use harness::store::record::{RunRecord, Status};
use support::World;
use support::runs::{Setting, made_up, scored};

/// A run of RTE on synthetic data whose numbers are given.
fn run(method: &str, seed: u64, status: Status) -> RunRecord {
    let setting = Setting { source: "micro", weights: "ab", backbone: "tiny", ..Setting::default() };
    made_up(&setting, "rte", method, seed, status)
}

fn done(accuracy: f64, effective: i64, collapse: &[&str]) -> Status {
    scored(&[("dev", "accuracy", accuracy)], effective, collapse)
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
    write::write(&ResultsFrame::of_records(&runs()), dir.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    insta::assert_snapshot!("table1.md", read("table1.md"));
    insta::assert_snapshot!("table1.tex", read("table1.tex"));
    insta::assert_snapshot!("table1.csv", read("table1.csv"));
    assert!(read("table1.md").contains("SYNTHETIC"), "a table from synthetic data must say so");
}

#[test]
fn a_failed_baseline_check() {
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
    insta::assert_snapshot!("failed_baseline_check", text(&compare(&before, &now)));
}

#[test]
fn help() {
    let output = World::new().rankbench(&["--help"]).output().unwrap();
    insta::assert_snapshot!("help", String::from_utf8_lossy(&output.stdout));
}
