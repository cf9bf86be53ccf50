//! Runs that share their steps end where separate runs end: seeds, rates, ranks, thresholds and methods side by side.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use support::World;
use support::process::run_dirs;

/// float32 after a dozen steps: the order of sums differs.
const TOLERANCE: f64 = 1e-5;

/// A column of a CSV file.
fn column(text: &str, name: &str) -> Vec<f64> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    if reader.headers().unwrap().is_empty() {
        return Vec::new();
    }
    let at = reader.headers().unwrap().iter().position(|header| header == name).unwrap();
    reader.records().map(|record| record.unwrap()[at].parse().unwrap()).collect()
}

/// Run directories by the run's id.
fn runs(world: &World, out: &str) -> BTreeMap<String, PathBuf> {
    let named = |run: PathBuf| (run.file_name().unwrap().to_string_lossy().into_owned(), run);
    run_dirs(world, out).into_iter().map(named).collect()
}

/// Holds every run of `both` against the one in `out`, and gives how many shared their steps, by the run's id.
fn compare(world: &World) -> BTreeMap<String, u64> {
    let (alone, together) = (runs(world, "out"), runs(world, "both"));
    assert_eq!(alone.keys().collect::<Vec<_>>(), together.keys().collect::<Vec<_>>());
    let sizes = alone.iter().map(|(id, dir)| {
        let both = |file: &str| [dir, &together[id]].map(|dir| std::fs::read_to_string(dir.join(file)).unwrap());
        let close = |file: &str, name: &str, tolerance: f64| {
            let [want, got] = both(file).map(|text| column(&text, name));
            assert_eq!(want.len(), got.len(), "{id}");
            let is_close = |(want, got): (&f64, &f64)| (want - got).abs() <= tolerance;
            assert!(want.iter().zip(&got).all(is_close), "{id}, {name}: {want:?} and {got:?}");
        };
        close("epochs.csv", "task_loss", TOLERANCE);
        close("epochs.csv", "penalty", TOLERANCE);
        close("steps.csv", "lr", 0.0);
        close("steps.csv", "task_loss", 10.0 * TOLERANCE);
        // A class is the same or another, a score is near.
        close("predictions.csv", "prediction", 10.0 * TOLERANCE);
        close("ranks.csv", "rank", 0.0);
        let manifest: serde_json::Value = serde_json::from_str(&both("manifest.json")[1]).unwrap();
        (id.clone(), manifest["together"].as_u64().unwrap())
    });
    sizes.collect()
}

#[test]
fn seeds_side_by_side_end_where_separate_runs_end() {
    for (task, methods, count) in [("sst2", "lora,adalora,sora,bitfit", 12), ("stsb", "lora", 3)] {
        let world = World::new();
        let common = ["--tasks", task, "--methods", methods, "--seeds", "0,1,2"];
        world.run(&common).assert().success();
        let together = world.run(&[&common[..], &["--together", "3", "--out", "both"]].concat()).assert().success();
        let stderr = String::from_utf8_lossy(&together.get_output().stderr).into_owned();
        let marks = [format!("{task} lora seed 0, 1, 2"), format!("[{count}/{count}]")];
        assert!(marks.iter().all(|mark| stderr.contains(mark)), "{stderr}");
        for (id, size) in compare(&world) {
            assert_eq!(size, if id.contains("bitfit") { 1 } else { 3 }, "{id}");
        }
    }
}

#[test]
fn runs_that_differ_share_their_steps_and_end_where_separate_runs_end() {
    let world = World::new();
    let grid = [
        "lora.r=2,5",
        "train.lr=1e-2,5e-3",
        "train.weight_decay=0.0,0.1",
        "sora.xi=1e-3,1e-2",
        "adalora.gamma=0.1,0.5",
    ];
    let mut flags = vec!["--methods", "lora,adalora,sora,dora,bitfit", "--seeds", "0,1", "--log-steps", "1"];
    grid.iter().for_each(|set| flags.extend(["--set", set]));
    world.run(&flags).assert().success();
    let together = world.run(&[&flags[..], &["--together", "64", "--out", "both"]].concat()).assert().success();
    let stderr = String::from_utf8_lossy(&together.get_output().stderr).into_owned();
    let sizes = compare(&world);
    let of = |method: &str| -> Vec<u64> {
        let is_of = |id: &&String| id.starts_with(&format!("sst2-{method}-"));
        sizes.keys().filter(is_of).map(|id| sizes[id]).collect()
    };
    let count = |method: &str| of(method).len();
    // Rate and decay make four settings of every method, two seeds each.
    assert_eq!(["lora", "adalora", "sora", "dora", "bitfit"].map(count), [16, 16, 16, 8, 8]);
    for method in ["lora", "adalora", "sora"] {
        assert!(of(method).iter().all(|size| *size == 48), "{method}");
    }
    assert!(of("dora").iter().all(|size| *size == 8) && of("bitfit").iter().all(|size| *size == 1));
    for mark in [
        "sst2, 48 runs side by side",
        "sst2, 8 runs side by side",
        "sora, lr=0.005 weight_decay=0.1 xi=0.01, seed 1: development set accuracy",
        "seed 1: epoch 2.00: validation",
    ] {
        assert!(stderr.contains(mark), "{mark}: {stderr}");
    }
}

#[test]
fn differing_runs_in_a_stack_go_on_from_their_checkpoints() {
    let world = World::new();
    let flags = ["--methods", "lora,sora", "--seeds", "0", "--set", "lora.r=2,5", "--together", "8"];
    world.run(&flags).assert().success();
    let cut = [&flags[..], &["--out", "both", "--checkpoint-every", "0"]].concat();
    let mut child = support::process::process(&world.run(&cut)).spawn().unwrap();
    let is_begun = || run_dirs(&world, "both").iter().any(|dir| dir.join("checkpoint.safetensors").exists());
    support::process::wait_until("a checkpoint", &mut child, is_begun);
    // SAFETY: a plain number crosses, and the child is not waited for yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(child.wait().unwrap().code(), Some(75));
    let resumed = world.run(&cut).assert().success();
    let stderr = String::from_utf8_lossy(&resumed.get_output().stderr).into_owned();
    assert!(stderr.contains("goes on after step"), "{stderr}");
    for (id, dir) in runs(&world, "out") {
        for file in ["evals.csv", "predictions.csv", "ranks.csv"] {
            let [whole, resumed] = [&dir, &runs(&world, "both")[&id]].map(|dir| std::fs::read(dir.join(file)).unwrap());
            assert!(whole == resumed, "{id}: {file}");
        }
    }
}

#[test]
fn a_stack_is_as_large_as_timed_steps_say() {
    // More runs than a batch has rows, and a number that does not divide them.
    for seeds in ["0-2", "0-19"] {
        let world = World::new();
        let flags = ["--methods", "lora,bitfit", "--seeds", seeds, "--epochs", "1"];
        world.run(&flags).assert().success();
        let together = world.run(&[&flags[..], &["--stack", "auto", "--out", "both"]].concat()).assert().success();
        let stderr = String::from_utf8_lossy(&together.get_output().stderr).into_owned();
        let sizes = compare(&world);
        let line = stderr.lines().find(|line| line.contains("stacks of")).unwrap_or_else(|| panic!("{stderr}"));
        let size: u64 = line.split("stacks of ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(line.contains("ms a run and step with 1, 2") && !line.contains("cannot be timed"), "{line}");
        let lora: Vec<u64> = sizes.iter().filter(|(id, _)| id.contains("-lora-")).map(|(_, size)| *size).collect();
        assert!(lora.iter().all(|of| *of <= size) && lora.contains(&size), "{lora:?}: {line}");
    }
}

#[test]
fn a_measured_stack_is_refused_where_others_take_it_too() {
    let world = World::new();
    for others in [["--jobs", "2"], ["--write-plan", "plan.jsonl"]] {
        let (code, text) = support::failure(&mut world.run(&[&["--stack", "auto"], &others[..]].concat()));
        assert!(code == 2 && text.contains("--stack auto"), "{code}: {text}");
    }
}

#[test]
fn runs_of_another_stack_size_go_on_in_stacks() {
    let world = World::new();
    let flags = ["--methods", "lora", "--seeds", "0-3", "--checkpoint-every", "0"];
    let mut child = support::process::process(&world.run(&[&flags[..], &["--stack", "2"]].concat())).spawn().unwrap();
    let is_begun = || run_dirs(&world, "out").iter().any(|dir| dir.join("checkpoint.safetensors").exists());
    support::process::wait_until("a checkpoint", &mut child, is_begun);
    // SAFETY: a plain number crosses, and the child is not waited for yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    assert_eq!(child.wait().unwrap().code(), Some(75));
    world.run(&[&flags[..], &["--stack", "4"]].concat()).assert().success();
    for dir in run_dirs(&world, "out") {
        let manifest = std::fs::read_to_string(dir.join("manifest.json")).unwrap();
        assert!(manifest.contains("\"together\": 2"), "two were begun, and two stand at the first step: {manifest}");
    }
}

/// An equal share of the time of unequal runs is no method's time.
#[test]
fn tables_of_time_leave_mixed_stacks_out() {
    let world = World::new();
    let common = ["--methods", "lora,adalora", "--seeds", "0,1", "--together"];
    let seconds = |size: &str, out: &str| {
        world.run(&[&common[..], &[size, "--out", out]].concat()).assert().success();
        let results = world.read(&format!("{out}/report/results.csv"));
        let mut reader = csv::Reader::from_reader(results.as_bytes());
        let at = reader.headers().unwrap().iter().position(|header| header == "epoch_seconds").unwrap();
        reader.records().filter(|record| !record.as_ref().unwrap()[at].is_empty()).count()
    };
    assert_eq!(seconds("4", "mixed"), 0);
    assert!(seconds("2", "alike") > 0, "an equal share of equal runs is each one's own");
}
