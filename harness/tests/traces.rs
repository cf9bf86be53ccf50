//! Traces of a run's steps and gates: `steps.csv`, `gates.csv`, the figures made of them, and TensorBoard's event files.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use harness::store::rows::{EpochRow, EvalRow, GateRow, RankRow, StepRow};
use serde::de::DeserializeOwned;
use support::World;

/// Directories of the runs in `out`, by method and seed: `lora-s0`.
fn runs(world: &World, out: &str) -> BTreeMap<String, PathBuf> {
    let entries = std::fs::read_dir(world.path(out).join("runs")).unwrap();
    let named = |path: PathBuf| {
        let id = path.file_name().unwrap().to_string_lossy().into_owned();
        let name = id.split('-').skip(1).take(2).collect::<Vec<_>>().join("-");
        (name, path)
    };
    entries.map(|entry| named(entry.unwrap().path())).collect()
}

fn rows<T: DeserializeOwned>(path: PathBuf) -> Vec<T> {
    let mut reader = csv::Reader::from_path(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    reader.deserialize().collect::<Result<_, _>>().unwrap()
}

#[test]
fn steps_agree_with_epochs_ranks_and_the_schedule() {
    let world = World::new();
    world.run(&["--methods", "lora,adalora,sora"]).assert().success();
    for (name, run) in runs(&world, "out") {
        let steps: Vec<StepRow> = rows(run.join("steps.csv"));
        let epochs: Vec<EpochRow> = rows(run.join("epochs.csv"));
        let ranks: Vec<RankRow> = rows(run.join("ranks.csv"));
        assert_eq!(steps.iter().map(|row| row.step).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>(), "{name}");
        for epoch in &epochs {
            let own: Vec<&StepRow> = steps.iter().filter(|row| row.epoch == epoch.epoch).collect();
            let mean =
                |of: fn(&StepRow) -> f32| own.iter().map(|row| f64::from(of(row))).sum::<f64>() / own.len() as f64;
            assert!((mean(|row| row.task_loss) - epoch.task_loss).abs() < 1e-12, "{name}: {epoch:?}");
            assert!((mean(|row| row.penalty) - epoch.penalty).abs() < 1e-12, "{name}: {epoch:?}");
            let at_end = own.last().unwrap();
            let left: i64 = ranks.iter().filter(|row| row.step == at_end.step).map(|row| row.rank).sum();
            assert_eq!(at_end.nonzero_components, (!name.starts_with("lora")).then_some(left), "{name}");
        }
        // 12 steps of which 2 (rounded up from 1.2) warm up to 2e-2, and a fall over the other 10.
        let rates: Vec<f64> = steps.iter().map(|row| row.lr).collect();
        let expected: Vec<f64> = [0.0, 0.5].into_iter().chain((0..10).map(|t| 1.0 - f64::from(t) / 10.0)).collect();
        assert!(rates.iter().zip(&expected).all(|(rate, share)| (rate - 2e-2 * share).abs() < 1e-12), "{rates:?}");
        assert!(steps.iter().all(|row| row.grad_norm > 0.0 && row.grad_norm.is_finite()), "{name}: {steps:?}");
    }
}

#[test]
fn logging_is_no_part_of_a_run() {
    let world = World::new();
    let methods = ["--methods", "lora,sora"];
    for (out, every) in [("usual", None), ("none", Some("0")), ("fifth", Some("5"))] {
        let flags = every.map_or(Vec::new(), |every| vec!["--log-steps", every]);
        world.run(&[&methods[..], &["--out", out], &flags].concat()).assert().success();
    }
    let [usual, none, fifth] = ["usual", "none", "fifth"].map(|out| runs(&world, out));
    for (name, run) in &usual {
        for other in [&none[name], &fifth[name]] {
            assert_eq!(run.file_name(), other.file_name(), "the id is the same");
            for file in ["evals.csv", "ranks.csv", "predictions.csv", "adapter/adapter_model.safetensors"] {
                let [a, b] = [run, other].map(|run| std::fs::read(run.join(file)).unwrap());
                assert!(a == b, "{name}: {file} depends on --log-steps");
            }
        }
        assert!(!none[name].join("steps.csv").exists(), "{name}");
        let every: Vec<StepRow> = rows(run.join("steps.csv"));
        let fifth: Vec<StepRow> = rows(fifth[name].join("steps.csv"));
        assert_eq!(fifth, [every[4].clone(), every[9].clone()], "{name}: the same values, fewer of them");
    }
    // A store without the file is read as ever.
    world.rankbench(&["report", "none"]).assert().success();
    world.rankbench(&["fsck", "--out", "none"]).assert().success();
    assert!(!world.path("none/report/figures/loss_by_step.svg").exists());
    assert!(world.path("none/report/figures/gate_histograms.svg").exists());
}

#[test]
fn a_long_run_has_some_hundred_rows() {
    let world = World::new();
    // 90 epochs of 6 steps: every second of 540.
    world.run(&["--methods", "lora", "--epochs", "90", "--set", "train.evaluate={epochs=90}"]).assert().success();
    let steps: Vec<StepRow> = rows(runs(&world, "out")["lora-s0"].join("steps.csv"));
    assert_eq!((steps.len(), steps[0].step, steps[269].step), (270, 2, 540));
}

#[test]
fn gates_are_those_of_the_last_step() {
    let world = World::new();
    let prunes = ["--set", "sora.options.xi=5e-2", "--set", "sora.options.r=3"];
    world.run(&[&["--methods", "lora,adalora,sora"][..], &prunes].concat()).assert().success();
    let runs = runs(&world, "out");
    assert!(!runs["lora-s0"].join("gates.csv").exists());
    for (name, components) in [("adalora-s0", 12), ("sora-s0", 3)] {
        let gates: Vec<GateRow> = rows(runs[name].join("gates.csv"));
        let ranks: Vec<RankRow> = rows(runs[name].join("ranks.csv"));
        let last: Vec<&RankRow> = ranks.iter().filter(|row| row.step == 12).collect();
        assert_eq!(gates.len(), last.len() * components, "{name}");
        for rank in last {
            let own: Vec<&GateRow> = gates.iter().filter(|row| row.module == rank.module).collect();
            assert!(
                own.iter().all(|row| row.step == 12 && row.layer == rank.layer && row.kind == rank.kind),
                "{own:?}"
            );
            assert_eq!(own.iter().map(|row| row.component).collect::<Vec<_>>(), (0..components).collect::<Vec<_>>());
            assert_eq!(own.iter().filter(|row| row.value != 0.0).count() as i64, rank.rank, "{name}: {}", rank.module);
            let mean = own.iter().map(|row| f64::from(row.value.abs())).sum::<f64>() / components as f64;
            assert!((mean - rank.mean_abs_gate.unwrap()).abs() < 1e-6, "{name}: {}", rank.module);
        }
    }
}

#[test]
fn runs_side_by_side_have_a_file_each() {
    let world = World::new();
    let seeds = ["--methods", "sora", "--seeds", "0,1"];
    world.run(&[&seeds[..], &["--out", "alone"]].concat()).assert().success();
    world.run(&[&seeds[..], &["--out", "stacked", "--stack", "2"]].concat()).assert().success();
    let [alone, stacked] = ["alone", "stacked"].map(|out| runs(&world, out));
    for name in ["sora-s0", "sora-s1"] {
        let [one, other] = [&alone, &stacked].map(|runs| rows::<StepRow>(runs[name].join("steps.csv")));
        assert_eq!(one.len(), other.len());
        for (a, b) in one.iter().zip(&other) {
            let is_near = |a: f32, b: f32| (a - b).abs() <= 1e-3 * a.abs().max(1e-3);
            assert!(is_near(a.task_loss, b.task_loss) && is_near(a.grad_norm, b.grad_norm), "{name}: {a:?} {b:?}");
        }
    }
    let [first, second] = ["sora-s0", "sora-s1"].map(|name| rows::<StepRow>(stacked[name].join("steps.csv")));
    assert_ne!(first, second, "seeds differ");
}

#[test]
fn a_run_that_fails_leaves_its_steps() {
    let world = World::new();
    world.recipe("[[override]]\nmethods = [\"lora\"]\ntrain = { lr = 1e30 }\n");
    world.run(&["--methods", "lora"]).assert().code(5);
    let steps: Vec<StepRow> = rows(runs(&world, "out")["lora-s0"].join("steps.csv"));
    assert!(steps[0].task_loss.is_finite() && steps.iter().any(|row| !row.task_loss.is_finite()), "{steps:?}");
}

#[test]
fn the_report_draws_steps_and_gates() {
    let world = World::new();
    let subgradient = ["--set", "sora.options.xi=5e-2,0.0", "--set", "sora.options.l1_weight=1.0", "--seeds", "0,1"];
    world.run(&[&["--methods", "lora,sora"][..], &subgradient].concat()).assert().success();
    let svg = |name: &str| world.read(&format!("out/report/figures/{name}.svg"));
    assert!(svg("loss_by_step").contains("SST-2: task loss"));
    assert!(svg("nonzero_components").contains("SST-2: non-zero components"));
    let gates = svg("gate_histograms");
    for title in ["SST-2: SoRA (xi=0.05), percent of gates", "SST-2: SoRA (xi=0.0), percent of gates", "0.0 %"] {
        assert!(gates.contains(title), "{title} is not in {gates}");
    }
    let page = world.read("out/report/report.html");
    assert!(page.contains("Gates at the end of the run") && page.contains("are exactly 0"), "the page has no gates");
}

/// `python3`, or what RANKBENCH_TENSORBOARD_PYTHON names, where it has tensorboard.
fn python_with_tensorboard() -> Option<String> {
    let given = std::env::var("RANKBENCH_TENSORBOARD_PYTHON").ok();
    let python = given.clone().unwrap_or("python3".into());
    let found = std::process::Command::new(&python).args(["-c", "import tensorboard"]).output();
    let is_there = found.is_ok_and(|output| output.status.success());
    assert!(is_there || given.is_none(), "{python} has no tensorboard");
    is_there.then_some(python)
}

/// Settings of a run, and every tag with its steps and values, as tensorboard's own reader gives them.
const READER: &str = r#"
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0}).Reload()
content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
hparams = HParamsPluginData.FromString(content).session_start_info.hparams
settings = {name: getattr(value, value.WhichOneof("kind")) for name, value in hparams.items()}
scalars = {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
print(json.dumps([settings, scalars]))
"#;

#[test]
fn tensorboard_reads_the_event_files() {
    let world = World::new();
    world.run(&["--methods", "lora,sora"]).assert().success();
    world.rankbench(&["tensorboard", "out", "--to", "logs"]).assert().success();
    let runs = runs(&world, "out");
    let folder = |name: &str| world.path("logs").join(runs[name].file_name().unwrap());
    assert!(runs.keys().all(|name| folder(name).join("events.out.tfevents.rankbench").is_file()));
    let Some(python) = python_with_tensorboard() else {
        println!("skipped: no Python with tensorboard; RANKBENCH_TENSORBOARD_PYTHON names one");
        return;
    };
    let script = world.path("reader.py");
    std::fs::write(&script, READER).unwrap();
    let output = std::process::Command::new(python).arg(script).arg(folder("sora-s0")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    type Read = (BTreeMap<String, serde_json::Value>, BTreeMap<String, Vec<(usize, f64)>>);
    let (settings, read): Read = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((settings["method"].as_str(), settings["lr"].as_f64()), (Some("sora"), Some(2e-2)));
    assert_eq!((settings["option_xi"].as_f64(), settings["option_variant"].as_str()), (Some(3e-4), Some("released")));
    let steps: Vec<StepRow> = rows(runs["sora-s0"].join("steps.csv"));
    let of = |value: fn(&StepRow) -> f64| steps.iter().map(|row| (row.step, value(row))).collect::<Vec<_>>();
    assert_eq!(read["train/task_loss"], of(|row| f64::from(row.task_loss)));
    assert_eq!(read["train/penalty"], of(|row| f64::from(row.penalty)));
    assert_eq!(read["train/lr"], of(|row| f64::from(row.lr as f32)));
    assert_eq!(read["train/grad_norm"], of(|row| f64::from(row.grad_norm)));
    assert_eq!(read["train/nonzero_components"], of(|row| row.nonzero_components.unwrap() as f64));
    let evals: Vec<EvalRow> = rows(runs["sora-s0"].join("evals.csv"));
    let accuracy = evals.iter().filter(|row| row.split == "validation" && row.metric == "accuracy");
    let accuracy: Vec<(usize, f64)> = accuracy.map(|row| (row.step, f64::from(row.value as f32))).collect();
    assert_eq!(read["validation/accuracy"], accuracy);
}
