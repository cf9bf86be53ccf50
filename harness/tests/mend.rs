//! `rankbench fsck` says what it would do, and does it where it is told to.

mod support;

use std::path::PathBuf;

use support::process::{process, run_dirs, wait_until};
use support::{World, one_line};

fn finished() -> (World, PathBuf) {
    let world = World::new();
    world.run(&["--methods", "lora"]).assert().success();
    let run = run_dirs(&world, "out").remove(0);
    (world, run)
}

fn fsck(world: &World, flags: &[&str]) -> (i32, String) {
    let output = world.rankbench(&[&["fsck", "--out", "out"], flags].concat()).output().unwrap();
    let text = one_line(&(String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), text)
}

#[test]
fn a_renamed_run_is_adopted_under_its_name() {
    let (world, run) = finished();
    let other = run.with_file_name("mine");
    std::fs::rename(&run, &other).unwrap();
    let (code, text) = fsck(&world, &[]);
    assert!(code == 3 && text.contains("--adopt renames it to") && other.exists(), "{text}");
    let (code, text) = fsck(&world, &["--remove"]);
    assert!(code == 3 && other.exists(), "--remove touches nothing that can be adopted: {text}");
    let (code, text) = fsck(&world, &["--adopt"]);
    assert!(code == 0 && text.contains("renamed to") && run.exists() && !other.exists(), "{text}");
    assert_eq!(fsck(&world, &[]).0, 0);
}

#[test]
fn a_run_without_sums_is_adopted_where_its_numbers_agree() {
    let (world, run) = finished();
    std::fs::write(run.join("DONE"), "").unwrap();
    assert!(fsck(&world, &[]).1.contains("--adopt writes the sums"));
    let (code, text) = fsck(&world, &["--adopt"]);
    assert!(code == 0 && text.contains("its sums are written"), "{text}");
    assert_eq!(fsck(&world, &[]).0, 0);
    // With a number that its predictions do not give it is not adopted.
    std::fs::write(run.join("DONE"), "").unwrap();
    let outcome = std::fs::read_to_string(run.join("outcome.json")).unwrap();
    let changed = outcome.replacen("\"selection_value\": ", "\"selection_value\": 0.0000123e-1", 1);
    assert_ne!(outcome, changed);
    std::fs::write(run.join("outcome.json"), changed).unwrap();
    let (code, text) = fsck(&world, &["--adopt"]);
    assert!(code == 3 && text.contains("--remove deletes it") && run.exists(), "{text}");
}

#[test]
fn a_damaged_run_is_deleted_and_made_again() {
    let (world, run) = finished();
    std::fs::remove_file(run.join("predictions.csv")).unwrap();
    world.write("out/runs/notes/text.md", "none of this program's");
    assert!(fsck(&world, &[]).1.contains("--remove deletes it"));
    let (code, text) = fsck(&world, &["--remove"]);
    assert!(text.contains("deleted") && !run.exists(), "{text}");
    assert!(code == 3 && text.contains("move it away") && world.path("out/runs/notes").exists(), "{text}");
    std::fs::remove_dir_all(world.path("out/runs/notes")).unwrap();
    world.run(&["--methods", "lora"]).assert().success();
    assert_eq!(fsck(&world, &[]).0, 0);
}

#[test]
fn leftovers_are_named_and_deleted_and_are_no_damage() {
    let (world, run) = finished();
    for file in ["checkpoint.safetensors", "lease-3", "evals.csv.00-0.partial"] {
        std::fs::write(run.join(file), "x").unwrap();
    }
    std::fs::remove_file(run.join("lease-3")).unwrap();
    let (code, text) = fsck(&world, &[]);
    assert!(code == 0 && text.contains("half-written files") && text.contains("of a run that is finished"), "{text}");
    let (code, _) = fsck(&world, &["--remove"]);
    assert_eq!(code, 0);
    assert!(!run.join("checkpoint.safetensors").exists() && !run.join("evals.csv.00-0.partial").exists());
    let (_, text) = fsck(&world, &[]);
    assert!(!text.contains("--remove"), "{text}");
    // A checkpoint that cannot be used is said before a start finds out.
    std::fs::remove_file(run.join("DONE")).unwrap();
    std::fs::write(run.join("checkpoint.safetensors"), "x").unwrap();
    let (code, text) = fsck(&world, &[]);
    assert!(code == 0 && text.contains("checkpoint.safetensors cannot be used"), "{text}");
}

#[test]
fn a_run_in_work_is_named_and_left_alone() {
    let world = World::new();
    let mut child = process(&world.run(&["--methods", "sora", "--epochs", "4000"])).spawn().unwrap();
    wait_until("its run", &mut child, || run_dirs(&world, "out").iter().any(|run| run.join("evals.csv").exists()));
    let (code, text) = fsck(&world, &["--remove", "--adopt"]);
    assert!(code == 0 && text.contains(&format!("process {} on", child.id())), "{text}");
    let status = world.rankbench(&["status", "--out", "out"]).output().unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("1 runs: 1 running") && status.contains(&format!("process {} on", child.id())), "{status}");
    child.kill().unwrap();
    child.wait().unwrap();
    let status = world.rankbench(&["status", "--out", "out"]).output().unwrap();
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.contains("1 cut off without one") || status.contains("1 stopped with a checkpoint"), "{status}");
}

/// A run whose files cannot be read may be whole.
#[test]
fn a_run_whose_files_cannot_be_read_is_not_deleted() {
    let (world, run) = finished();
    let (file, kept) = (run.join("predictions.csv"), world.path("kept"));
    std::fs::rename(&file, &kept).unwrap();
    // A link to itself is there and cannot be read, whoever asks.
    std::os::unix::fs::symlink(&file, &file).unwrap();
    let (code, text) = fsck(&world, &["--remove"]);
    assert!(code == 3 && text.contains("make its files readable") && run.join("DONE").exists(), "{text}");
    let (code, text) = support::failure(&mut world.run(&["--methods", "lora"]));
    assert!(code == 3 && text.contains("cannot be read: out/runs/sst2-lora-s0-"), "{text}");
    std::fs::rename(&kept, &file).unwrap();
    assert_eq!(fsck(&world, &[]).0, 0);
    world.run(&["--methods", "lora"]).assert().success();
}

#[test]
fn a_finished_run_without_its_specification_is_left_as_it_is() {
    let (world, run) = finished();
    std::fs::remove_file(run.join("run.toml")).unwrap();
    let (code, text) = support::failure(&mut world.run(&["--methods", "lora"]));
    assert!(code == 3 && !run.join("run.toml").exists(), "{text}");
}
