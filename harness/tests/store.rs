//! A store is checked when it is read: what was copied, edited, cut or deleted is in no number and is named.

mod support;

use support::{World, failure, one_line};

/// A finished run of SST-2 in `out`, and its directory.
fn finished() -> (World, std::path::PathBuf) {
    let world = World::new();
    world.run(&["--methods", "lora"]).assert().success();
    let dir = std::fs::read_dir(world.path("out/runs")).unwrap().next().unwrap().unwrap().path();
    (world, dir)
}

fn fsck(world: &World) -> (i32, String) {
    let output = world.rankbench(&["fsck", "--out", "out"]).output().unwrap();
    (output.status.code().unwrap(), one_line(&String::from_utf8_lossy(&output.stdout)))
}

/// The report's text, and what it left out.
fn report(world: &World) -> (String, String) {
    let output = world.rankbench(&["report", "--out", "out"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (world.read("out/report/table1.md"), one_line(&String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_whole_store_has_no_finding() {
    let (world, _) = finished();
    let (code, text) = fsck(&world);
    assert!(code == 0 && text.contains("1 runs are whole, 0 failed, 0 are unfinished, 0 do not agree"), "{text}");
    assert_eq!(report(&world).1, "");
}

#[test]
fn every_damage_is_found_and_named_and_left_out_of_the_numbers() {
    type Damage = fn(&std::path::Path);
    fn edit(dir: &std::path::Path, file: &str, change: impl Fn(String) -> String) {
        let path = dir.join(file);
        let text = change(std::fs::read_to_string(&path).unwrap());
        std::fs::write(path, text).unwrap();
    }
    let damages: [(&str, Damage, &str); 8] = [
        (
            "edited seed",
            |dir| edit(dir, "run.toml", |t| t.replace("seed = 0", "seed = 7")),
            "run.toml is that of sst2-lora-s7",
        ),
        (
            "edited score",
            |dir| {
                edit(dir, "outcome.json", |t| t.replace("\"accuracy\",", "\"accuracy\",\n1e-3+").replace("1e-3+", ""))
            },
            "outcome.json is not the file that was written",
        ),
        (
            "edited label",
            |dir| edit(dir, "predictions.csv", |t| t.replacen(",1.0,", ",0.0,", 1)),
            "predictions.csv is not the file",
        ),
        (
            "deleted predictions",
            |dir| std::fs::remove_file(dir.join("predictions.csv")).unwrap(),
            "predictions.csv is missing",
        ),
        (
            "cut predictions",
            |dir| edit(dir, "predictions.csv", |t| t.lines().take(5).map(|l| format!("{l}\n")).collect()),
            "has 4 rows of dev",
        ),
        (
            "cut epochs",
            |dir| edit(dir, "epochs.csv", |t| t.lines().take(2).map(|l| format!("{l}\n")).collect()),
            "epochs.csv is not the file",
        ),
        (
            "cut weights",
            |dir| std::fs::write(dir.join("adapter/adapter_model.safetensors"), b"x").unwrap(),
            "adapter_model.safetensors is not",
        ),
        ("emptied mark", |dir| std::fs::write(dir.join("DONE"), b"").unwrap(), "DONE holds no sums"),
    ];
    for (what, damage, finding) in damages {
        let (world, dir) = finished();
        damage(&dir);
        let (code, text) = fsck(&world);
        assert!(code == 3 && text.contains(finding), "{what}: {text}");
        let (table, left_out) = report(&world);
        assert!(left_out.contains(finding), "{what}: {left_out}");
        assert!(table.contains("damaged ✗") && table.contains("✗ failed or damaged"), "{what}: {table}");
    }
}

#[test]
fn a_score_that_its_predictions_do_not_give_is_found_without_sums() {
    let (world, dir) = finished();
    let outcome = dir.join("outcome.json");
    let mut value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&outcome).unwrap()).unwrap();
    value["results"][0]["test"][0][1] = 0.123.into();
    std::fs::write(&outcome, value.to_string()).unwrap();
    let (code, text) = fsck(&world);
    assert!(
        code == 3 && text.contains("outcome.json says accuracy on dev (validation) is 0.123, its predictions give"),
        "{text}"
    );
}

/// Messages of a command, its exit code, and where in them each of some texts begins.
fn said_in_order(command: &mut assert_cmd::Command, texts: &[&str]) -> (i32, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let places: Vec<usize> =
        texts.iter().map(|part| text.find(part).unwrap_or_else(|| panic!("{part}: {text}"))).collect();
    assert!(places.is_sorted(), "{texts:?} at {places:?} in {text}");
    (output.status.code().unwrap(), text)
}

#[test]
fn damage_is_named_before_the_first_step_and_the_rest_is_made() {
    type Damage = fn(&std::path::Path);
    let damages: [(Damage, &str); 2] = [
        (
            |dir| {
                let path = dir.join("outcome.json");
                let mut value: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                value["results"][0]["test"][0][1] = 0.999.into();
                std::fs::write(&path, value.to_string()).unwrap();
            },
            "outcome.json is not the file that was written",
        ),
        (|dir| std::fs::write(dir.join("predictions.csv"), "split,dev").unwrap(), "predictions.csv is not the file"),
    ];
    for (damage, finding) in damages {
        for jobs in ["1", "2"] {
            let (world, dir) = finished();
            damage(&dir);
            let mut command = world.run(&["--methods", "lora,sora", "--jobs", jobs]);
            let texts = [
                "damaged: out/runs/sst2-lora-s0-",
                finding,
                "fsck --out out",
                "sst2 sora seed 0",
                "left out: sst2-lora",
            ];
            let (code, text) = said_in_order(&mut command, &texts);
            // The run that is damaged is one of this command, which therefore is not done.
            assert!(code == 3 && text.contains("1 of 2 runs are stored and not as they were written"), "{text}");
            assert!(!text.contains("of 2 runs are finished already") || jobs == "2", "{text}");
            let table = world.read("out/report/table1.md");
            assert!(table.contains("damaged ✗") && table.contains("SoRA"), "{table}");
            world.rankbench(&["fsck", "--out", "out", "--remove"]).assert().success();
            let (code, text) =
                said_in_order(&mut world.run(&["--methods", "lora,sora", "--jobs", jobs]), &["sst2 lora seed 0"]);
            assert!(code == 0 && !text.contains("damaged"), "{text}");
        }
    }
}

#[test]
fn damage_of_other_runs_is_named_and_fails_no_sweep() {
    let (world, dir) = finished();
    let copy = dir.with_file_name("sst2-lora-s1-0123456789");
    assert!(std::process::Command::new("cp").arg("-r").arg(&dir).arg(&copy).status().unwrap().success());
    world.write("out/runs/notes/run.toml", "not = a run");
    let texts = [
        "damaged: out/runs/notes: no run that can be read: out/runs/notes/run.toml is damaged: line 1: ",
        "copied or renamed",
        "2 directories in out/runs",
        "sst2 sora seed 0",
    ];
    let (code, text) = said_in_order(&mut world.run(&["--methods", "sora"]), &texts);
    assert_eq!(code, 0, "{text}");
    // A report of the plan alone reads no others.
    let output = world.run(&["--methods", "sora", "--only-plan"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !text.contains("damaged"), "{text}");
}

#[test]
fn a_run_in_work_whose_specification_was_damaged_is_made_under_its_own() {
    let (world, dir) = finished();
    for name in ["DONE", "outcome.json"] {
        std::fs::remove_file(dir.join(name)).unwrap();
    }
    for content in ["seed = ", &world.read(&format!("{}/run.toml", dir.display())).replace("seed = 0", "seed = 7")] {
        std::fs::write(dir.join("run.toml"), content).unwrap();
        let _ = std::fs::remove_file(dir.join("DONE"));
        world.run(&["--methods", "lora"]).assert().success();
        let (code, text) = fsck(&world);
        assert!(code == 0 && text.contains("1 runs are whole"), "{text}");
    }
}

#[test]
fn a_copied_directory_is_not_another_run() {
    let (world, dir) = finished();
    let copy = dir.with_file_name("sst2-lora-s1-0123456789");
    let status = std::process::Command::new("cp").arg("-r").arg(&dir).arg(&copy).status().unwrap();
    assert!(status.success());
    let (code, text) = fsck(&world);
    assert!(code == 3 && text.contains("sst2-lora-s1-0123456789") && text.contains("copied or renamed"), "{text}");
    assert!(text.contains("1 runs are whole") && text.contains("1 do not agree"), "{text}");
}

#[test]
fn what_is_no_run_is_named_and_the_rest_is_shown() {
    let (world, _) = finished();
    world.write("out/runs/notes/run.toml", "not = a run");
    let (table, left_out) = report(&world);
    assert!(left_out.contains("notes is no run that can be read") && table.contains("LoRA"), "{left_out}\n{table}");
    let (code, text) = fsck(&world);
    assert!(code == 3 && text.contains("delete it to have the run made again"), "{text}");
}

#[test]
fn parts_of_the_wall_time_add_up() {
    let (_world, dir) = finished();
    let outcome: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("outcome.json")).unwrap()).unwrap();
    let parts = outcome["seconds"].as_object().unwrap();
    let sum: f64 = parts.values().map(|value| value.as_f64().unwrap()).sum();
    let wall = outcome["wall_seconds"].as_f64().unwrap();
    assert!((sum - wall).abs() < 1e-9, "{sum} of {wall}");
    for part in ["loading", "tokenising", "training", "evaluation", "export"] {
        assert!(parts[part].as_f64().unwrap() > 0.0, "{part}: {outcome}");
    }
    assert!(parts["other"].as_f64().unwrap() >= 0.0, "{outcome}");
    assert!(outcome["memory"]["peak_resident_mib"].as_f64().unwrap() > 10.0, "{outcome}");
}

#[test]
fn the_commit_is_the_builds_own() {
    let (world, dir) = finished();
    let manifest: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(dir.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["git_commit"], harness::env::version::COMMIT);
    assert_eq!(manifest["origin"]["recipe"], "tiny");
    // Another repository in the environment says nothing about this program.
    std::fs::remove_dir_all(world.path("out")).unwrap();
    world.run(&["--methods", "lora"]).env("GIT_DIR", "/nowhere").assert().success();
    let dir = std::fs::read_dir(world.path("out/runs")).unwrap().next().unwrap().unwrap().path();
    let manifest = std::fs::read_to_string(dir.join("manifest.json")).unwrap();
    assert!(manifest.contains(harness::env::version::COMMIT), "{manifest}");
}

#[test]
fn an_empty_directory_is_said() {
    let world = World::new();
    let (code, text) = failure(&mut world.rankbench(&["fsck", "--out", "nothing"]));
    assert!(code == 3 && text.contains("nothing/runs"), "{text}");
}

#[test]
fn a_runs_peak_memory_is_the_same_whatever_ran_before_it() {
    let peak = |methods: &str| {
        let world = World::new();
        world.run(&["--methods", methods]).assert().success();
        let mut runs = std::fs::read_dir(world.path("out/runs")).unwrap().map(|run| run.unwrap().path());
        let lora = runs.find(|run| run.to_string_lossy().contains("-lora-")).unwrap();
        let outcome: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(lora.join("outcome.json")).unwrap()).unwrap();
        outcome["memory"]["peak_resident_mib"].as_f64().unwrap()
    };
    let (alone, after) = (peak("lora"), peak("full,adalora,lora"));
    // A resident set holds what the process has loaded, too; on a GPU allocated memory agrees to the byte.
    assert!((after / alone - 1.0).abs() < 0.2, "{alone} MiB alone, {after} MiB after others");
}
