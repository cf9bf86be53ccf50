//! The binary end to end on a tiny backbone and tiny GLUE files: what it stores, how it goes on after a kill, what a
//! failing run does to the others.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::process::process;
use support::{World, failure};

/// Run directories by `<task>-<method>-s<seed>`.
fn runs(world: &World, out: &str) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(world.path(out).join("runs")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.map(|name| (name.rsplit_once('-').unwrap().0.to_string(), format!("{out}/runs/{name}"))).collect()
}

#[test]
fn a_sweep_stores_every_run_and_writes_the_report() {
    let world = World::new();
    let output = world.run(&["--tasks", "sst2,rte"]).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.contains("Table 1") && stdout.contains("SoRA") && stdout.contains("Report: "), "{stdout}");
    assert!(stderr.contains("[6/6]"), "{stderr}");
    let runs = runs(&world, "out");
    assert_eq!(runs.len(), 6);
    for (name, dir) in &runs {
        for file in [
            "run.toml",
            "manifest.json",
            "epochs.csv",
            "evals.csv",
            "ranks.csv",
            "predictions.csv",
            "outcome.json",
            "DONE",
        ] {
            assert!(world.path(dir).join(file).exists(), "{name} has no {file}");
        }
        assert_eq!(world.read(&format!("{dir}/epochs.csv")).lines().count(), 3, "{name}: two epochs and a header");
        assert_eq!(world.read(&format!("{dir}/predictions.csv")).lines().count(), 17, "{name}: 16 rows and a header");
        assert!(world.path(dir).join("adapter/adapter_model.safetensors").exists());
    }
    for file in [
        "table1.md",
        "table1.csv",
        "table1.tex",
        "report.html",
        "results.csv",
        "figures/score_parameters.svg",
        "figures/score_parameters.png",
        "figures/training_curves.svg",
        "figures/final_ranks.svg",
    ] {
        assert!(world.path("out/report").join(file).exists(), "no {file}");
    }
}

#[test]
fn a_finished_run_is_not_made_again_and_a_cut_off_one_is() {
    let world = World::new();
    world.run(&["--methods", "lora,sora"]).assert().success();
    let first = runs(&world, "out");
    let done = |dir: &str| std::fs::metadata(world.path(dir).join("DONE")).unwrap().modified().unwrap();
    let before = done(&first["sst2-lora-s0"]);
    // What a killed process leaves behind: a directory without DONE, with a half-written file.
    std::fs::remove_file(world.path(&first["sst2-sora-s0"]).join("DONE")).unwrap();
    std::fs::remove_file(world.path(&first["sst2-sora-s0"]).join("outcome.json")).unwrap();
    world.write(&format!("{}/evals.csv.partial", first["sst2-sora-s0"]), "step,ep");
    let again = world.run(&["--methods", "lora,sora"]).assert().success();
    let stderr = String::from_utf8_lossy(&again.get_output().stderr).into_owned();
    assert!(stderr.contains("1 of 2 runs are finished already"), "{stderr}");
    assert_eq!(runs(&world, "out"), first);
    assert_eq!(done(&first["sst2-lora-s0"]), before, "a finished run was made again");
    let manifest = world.read(&format!("{}/manifest.json", first["sst2-sora-s0"]));
    assert!(manifest.contains("\"restarts\": 1"), "{manifest}");
}

/// `rankbench run` in a process of its own.
fn start(world: &World, extra: &[&str]) -> std::process::Child {
    process(&world.run(extra)).spawn().unwrap()
}

/// A run that takes long enough to be hit in its middle.
fn long_run(world: &World) -> std::process::Child {
    let mut child = start(world, &["--epochs", "4000", "--methods", "lora"]);
    for _ in 0..600 {
        let runs = std::fs::read_dir(world.path("out/runs")).into_iter().flatten().flatten();
        if runs.map(|entry| entry.path()).any(|run| run.join("evals.csv").exists() && !run.join("DONE").exists()) {
            return child;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    panic!("the run did not start: {}", child.wait().unwrap());
}

#[test]
fn a_killed_sweep_goes_on_when_started_again() {
    let world = World::new();
    world.run(&["--methods", "sora"]).assert().success();
    let mut child = long_run(&world);
    child.kill().unwrap();
    child.wait().unwrap();
    let unfinished = runs(&world, "out");
    assert_eq!(unfinished.len(), 2);
    assert!(!world.path(&unfinished["sst2-lora-s0"]).join("DONE").exists());
    let again = world.run(&["--methods", "lora,sora"]).assert().success();
    let stderr = String::from_utf8_lossy(&again.get_output().stderr).into_owned();
    assert!(stderr.contains("1 of 2 runs are finished already"), "{stderr}");
}

#[test]
fn ctrl_c_stops_after_the_step_and_says_so() {
    let world = World::new();
    let child = long_run(&world);
    // SAFETY: the process is our own child.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("interrupted; finished runs are kept"), "{stderr}");
}

#[test]
fn one_failing_run_does_not_end_the_sweep_and_shows_in_the_table() {
    let world = World::new();
    world.recipe("[[override]]\nmethods = [\"adalora\"]\ntrain = { lr = 1e30 }\n");
    let (code, text) = failure(&mut world.run(&[]));
    assert_eq!(code, 5, "{text}");
    assert!(text.contains("the loss is not finite") && text.contains("1 of 3 runs failed"), "{text}");
    let runs = runs(&world, "out");
    assert!(
        world.path(&runs["sst2-lora-s0"]).join("DONE").exists()
            && world.path(&runs["sst2-sora-s0"]).join("DONE").exists()
    );
    assert!(world.read(&format!("{}/FAILED", runs["sst2-adalora-s0"])).contains("not finite"));
    let table = world.read("out/report/table1.md");
    assert!(table.contains("✗ failed") && table.contains("not finite"), "{table}");
}

#[test]
fn runs_that_fail_side_by_side_are_made_again_by_themselves() {
    let world = World::new();
    world.recipe("[[override]]\nmethods = [\"lora\"]\ntrain = { lr = 1e30 }\n");
    let (code, text) = failure(&mut world.run(&["--methods", "lora", "--seeds", "0,1", "--together", "2"]));
    assert_eq!(code, 5, "{text}");
    assert_eq!(text.matches("failed side by side, now by itself").count(), 2, "{text}");
    for dir in runs(&world, "out").values() {
        assert!(world.read(&format!("{dir}/FAILED")).contains("not finite"));
        assert!(world.read(&format!("{dir}/manifest.json")).contains("\"together\": 1"));
    }
}

/// A value that is not finite may have reached the checkpoint from another run of the stack.
#[test]
fn a_run_that_failed_in_a_stack_is_made_again_from_its_first_step() {
    let world = World::new();
    world.recipe("[[override]]\nmethods = [\"lora\"]\ntrain = { lr = 1e30 }\n");
    let stacked = ["--methods", "lora", "--seeds", "0,1", "--together", "2", "--checkpoint-every", "0"];
    let (code, text) = failure(&mut world.run(&stacked));
    assert_eq!(code, 5, "{text}");
    assert_eq!(text.matches("failed side by side, now by itself").count(), 2, "{text}");
    assert!(!text.contains("goes on after step") && !text.contains("checkpoint cannot be used"), "{text}");
    for dir in runs(&world, "out").values() {
        assert!(
            !world.path(dir).join("checkpoint.safetensors").exists(),
            "a later sweep tries {dir} again from its first step"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let world = World::new();
    let results = |out: &str| {
        world.run(&["--out", out]).assert().success();
        let runs = runs(&world, out);
        let of = |dir: &String| {
            let epochs = world.read(&format!("{dir}/epochs.csv"));
            // Seconds and memory are measured, the rest is computed.
            let names: Vec<&str> = epochs.lines().next().unwrap().split(',').collect();
            let is_computed = |at: usize| !names[at].ends_with("seconds") && !names[at].starts_with("peak_");
            let computed: Vec<String> = epochs
                .lines()
                .map(|l| l.split(',').enumerate().filter(|(i, _)| is_computed(*i)).map(|(_, v)| v).collect())
                .collect();
            let files = ["evals.csv", "ranks.csv", "predictions.csv"].map(|file| world.read(&format!("{dir}/{file}")));
            let adapter = std::fs::read(world.path(dir).join("adapter/adapter_model.safetensors")).unwrap();
            (computed, files, adapter)
        };
        runs.into_iter().map(|(name, dir)| (name, of(&dir))).collect::<Vec<_>>()
    };
    assert!(results("one") == results("two"), "two runs of one seed differ");
}

#[test]
fn another_seed_is_another_run() {
    let world = World::new();
    world.run(&["--methods", "lora", "--seeds", "0,1"]).assert().success();
    let runs = runs(&world, "out");
    let evals = |name: &str| world.read(&format!("{}/evals.csv", runs[name]));
    assert_ne!(evals("sst2-lora-s0"), evals("sst2-lora-s1"));
}

#[test]
fn evaluation_by_steps_and_static_padding_work() {
    let world = World::new();
    let recipe = world.recipe("");
    let text = std::fs::read_to_string(&recipe).unwrap();
    let text = text.replace("{ bucket = 4 }", "\"max_length\"").replace("{ epochs = 1 }", "{ steps = 5 }");
    std::fs::write(&recipe, text.replace("split = \"official\"", "split = \"sora\"")).unwrap();
    world.run(&["--methods", "lora"]).assert().success();
    let dir = &runs(&world, "out")["sst2-lora-s0"];
    let evals = world.read(&format!("{dir}/evals.csv"));
    assert!(evals.lines().skip(1).all(|line| line.starts_with("5,") || line.starts_with("10,")), "{evals}");
    assert!(evals.contains("validation") && evals.contains("test"), "{evals}");
    let epochs = world.read(&format!("{dir}/epochs.csv"));
    let padded: Vec<&str> = epochs.lines().nth(1).unwrap().split(',').collect();
    let steps: u64 = padded[1].parse().unwrap();
    let rows = if steps == 5 { 39 } else { 48 };
    assert_eq!(padded[6].parse::<u64>().unwrap(), rows * 16, "every row is 16 tokens wide: {epochs}");
}

#[test]
fn a_run_without_the_head_trains_only_adapters() {
    let world = World::new();
    let recipe = world.recipe("");
    let text = std::fs::read_to_string(&recipe).unwrap().replace("train_head = true", "train_head = false");
    std::fs::write(&recipe, text).unwrap();
    world.run(&["--methods", "sora"]).assert().success();
    let outcome = world.read(&format!("{}/outcome.json", runs(&world, "out")["sst2-sora-s0"]));
    assert!(outcome.contains("\"head\": 0"), "{outcome}");
}

#[test]
fn a_dry_run_prints_the_plan_and_makes_nothing() {
    let world = World::new();
    let output = world.run(&["--dry-run=toml", "--seeds", "3"]).output().unwrap();
    let plan = String::from_utf8_lossy(&output.stdout);
    assert!(plan.contains("# sst2-sora-s3-") && plan.contains("[options]") && plan.contains("xi = "), "{plan}");
    assert!(!world.path("out").exists());
}

#[test]
fn efficiency_takes_turns_and_writes_its_table() {
    let world = World::new();
    world.recipe("[timing]\nrounds = 3\nsteps = 2\n");
    let mut command = world.rankbench(&[
        "efficiency",
        "--recipe",
        "tiny.toml",
        "--glue",
        "glue",
        "--allow-unlocked",
        "--out",
        "time",
        "--device",
        "cpu",
    ]);
    let output = command.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("Ratio to AdaLoRA") && stdout.contains("Peak MiB"), "{stdout}");
    let timings = world.read("time/timings.csv");
    let order: Vec<&str> = timings.lines().skip(1).map(|line| line.split(',').next().unwrap()).collect();
    assert_eq!(order, ["lora", "adalora", "sora"].repeat(3), "methods take turns");
}

#[test]
fn doctor_says_what_is_there() {
    let world = World::new();
    let output = world.rankbench(&["doctor"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["libtorch      2.11.0", "GPU", "backbones     missing", "GLUE          not set"] {
        assert!(text.contains(part), "{text}");
    }
}
