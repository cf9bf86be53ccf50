//! Faults of disks and files: nothing finished is lost, nothing torn passes for finished, and the same command mends it.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::World;
use support::process::{process, run_dirs, wait_until};

/// A small file system of its own at `out`, unmounted when dropped; none where this process may not mount one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(world: &World, kib: usize) -> Option<Self> {
        let path = world.path("out");
        std::fs::create_dir_all(&path).unwrap();
        let size = format!("size={kib}k");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output().unwrap();
        if !mounted.status.success() {
            println!("skipped: no tmpfs can be mounted here: {}", String::from_utf8_lossy(&mounted.stderr).trim());
            return None;
        }
        Some(SmallDisk(path))
    }

    /// Leaves so much room, whatever lies on it.
    fn leave(&self, kib: usize) {
        let filler = self.0.join("filler");
        let _ = std::fs::remove_file(&filler);
        let free = Command::new("df").args(["-k", "--output=avail"]).arg(&self.0).output().unwrap();
        let free = String::from_utf8(free.stdout).unwrap().lines().last().unwrap().trim().parse::<usize>().unwrap();
        std::fs::write(filler, vec![1; (free - kib) << 10]).unwrap();
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Exit code and messages of a command.
fn outcome(command: &mut assert_cmd::Command) -> (i32, String) {
    let output = command.output().unwrap();
    let text = support::one_line(&String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code().expect("it was ended by a signal"), text)
}

/// Content of the files of the only run that do not hold times.
fn results(world: &World, out: &str) -> Vec<Vec<u8>> {
    let run = run_dirs(world, out).remove(0);
    let files = ["run.toml", "evals.csv", "ranks.csv", "predictions.csv", "adapter/adapter_model.safetensors"];
    files.iter().map(|file| std::fs::read(run.join(file)).unwrap()).collect()
}

const LORA: [&str; 2] = ["--methods", "lora"];

#[test]
fn a_disk_that_is_full_at_any_moment_tears_no_run() {
    let world = World::new();
    world.run(&[&LORA[..], &["--out", "whole"]].concat()).assert().success();
    let expected = results(&world, "whole");
    let (mut at_start, mut in_the_middle, mut at_the_end) = (0, 0, 0);
    // Page by page: each file in turn, DONE among them, is the one that has no room.
    for kib in (0..).step_by(4).map(|kib| kib + 8) {
        let Some(disk) = SmallDisk::new(&world, kib) else { return };
        let (code, text) = outcome(&mut world.run(&LORA));
        let run = run_dirs(&world, "out").into_iter().next();
        let has = |name: &str| run.as_ref().is_some_and(|run| run.join(name).exists());
        if has("DONE") {
            assert!(at_start > 0 && in_the_middle > 2 && at_the_end > 0, "{at_start} {in_the_middle} {at_the_end}");
            assert!(results(&world, "out") == expected);
            break;
        }
        assert!(code == 6 && text.contains("free the disk"), "{kib} KiB: {code}: {text}");
        match (has("manifest.json"), has("outcome.json")) {
            (false, _) => at_start += 1,
            (true, false) => in_the_middle += 1,
            (true, true) => at_the_end += 1,
        }
        // With room the same command goes on; what was written is what an undisturbed run writes.
        disk.remount("size=64m");
        assert_eq!(outcome(&mut world.run(&LORA)).0, 0, "{kib} KiB");
        assert!(results(&world, "out") == expected, "{kib} KiB: another result after the disk was full");
        world.rankbench(&["fsck", "--out", "out"]).assert().success();
        assert!(kib < 4096, "a disk of {kib} KiB is too small");
    }
}

#[test]
fn a_report_without_room_says_so_and_leaves_the_one_before() {
    let world = World::new();
    let Some(disk) = SmallDisk::new(&world, 16_384) else { return };
    world.run(&LORA).assert().success();
    let before = world.read("out/report/results.csv");
    let mut refused = 0;
    for kib in (0..).step_by(48) {
        disk.leave(kib);
        let (code, text) = outcome(&mut world.rankbench(&["report", "--out", "out"]));
        assert_eq!(world.read("out/report/results.csv"), before);
        if code == 0 {
            let figures =
                std::fs::read_dir(world.path("out/report/figures")).unwrap().map(|entry| entry.unwrap().path());
            let bitmaps: Vec<PathBuf> =
                figures.filter(|path| path.extension().is_some_and(|end| end == "png")).collect();
            let is_whole = |path: &PathBuf| std::fs::read(path).unwrap().ends_with(b"IEND\xaeB`\x82");
            assert!(bitmaps.len() > 2 && bitmaps.iter().all(is_whole), "{bitmaps:?}");
            break;
        }
        let is_said =
            text.contains("free the disk") && text.contains("No space left") && !text.contains("internal error");
        assert!(code == 6 && is_said, "{kib} KiB: {code}: {text}");
        refused += 1;
        assert!(kib < 8192, "a report of more than {kib} KiB");
    }
    assert!(refused > 3, "tables and figures, {refused}");
}

#[test]
fn a_disk_that_turns_read_only_ends_the_sweep_with_6() {
    let world = World::new();
    let Some(disk) = SmallDisk::new(&world, 65_536) else { return };
    let mut child = process(&world.run(&["--methods", "lora", "--epochs", "150"])).spawn().unwrap();
    wait_until("its run", &mut child, || run_dirs(&world, "out").iter().any(|run| run.join("evals.csv").exists()));
    disk.remount("ro");
    let output = child.wait_with_output().unwrap();
    let text = support::one_line(&String::from_utf8_lossy(&output.stderr));
    assert!(output.status.code() == Some(6) && text.contains("Read-only file system"), "{text}");
    disk.remount("rw");
    assert_eq!(outcome(&mut world.run(&["--methods", "lora", "--epochs", "150"])).0, 0);
    world.rankbench(&["fsck", "--out", "out"]).assert().success();
}

#[test]
fn a_directory_that_vanishes_ends_the_sweep_with_6_and_comes_again() {
    let world = World::new();
    let command = ["--methods", "lora,sora", "--epochs", "150"];
    let mut child = process(&world.run(&command)).spawn().unwrap();
    wait_until("its run", &mut child, || run_dirs(&world, "out").iter().any(|run| run.join("evals.csv").exists()));
    std::fs::rename(world.path("out"), world.path("gone")).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = support::one_line(&String::from_utf8_lossy(&output.stderr));
    assert!(output.status.code() == Some(6) && text.contains("No such file"), "{:?} {text}", output.status);
    assert!(!world.path("out").exists(), "a part of the directory was made again");
    std::fs::rename(world.path("gone"), world.path("out")).unwrap();
    assert_eq!(outcome(&mut world.run(&command)).0, 0);
    world.rankbench(&["fsck", "--out", "out"]).assert().success();
}

/// Files of a run, by their names below it.
fn files(run: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for folder in ["", "adapter"] {
        for entry in std::fs::read_dir(run.join(folder)).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            names.push(Path::new(folder).join(entry.file_name()).to_string_lossy().into_owned());
        }
    }
    names.sort();
    names
}

#[test]
fn every_file_of_a_run_that_was_cut_flipped_or_deleted_is_found() {
    let world = World::new();
    world.run(&["--methods", "lora,sora"]).assert().success();
    let run = run_dirs(&world, "out").remove(0);
    let names = files(&run);
    assert_eq!(names.len(), 11, "{names:?}");
    for name in &names {
        let path = run.join(name);
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for (what, bytes) in [
            ("cut", Some(&whole[..whole.len() / 2])),
            ("flipped", Some(&flipped[..])),
            ("empty", Some(&[][..])),
            ("deleted", None),
        ] {
            match bytes {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let fsck = world.rankbench(&["fsck", "--out", "out"]).output().unwrap();
            let text = String::from_utf8_lossy(&fsck.stdout);
            if name == "DONE" && what == "deleted" {
                // A run without DONE is not finished, and no number is made of it.
                assert!(fsck.status.success() && text.contains("1 are unfinished"), "{text}");
            } else {
                assert_eq!(fsck.status.code(), Some(3), "{name} {what}: {text}");
                assert!(text.contains("1 runs are whole") && text.contains("1 do not agree"), "{name} {what}: {text}");
            }
            let (code, text) = outcome(&mut world.rankbench(&["report", "--out", "out"]));
            assert_eq!(code, 0, "{name} {what}: {text}");
            let table = world.read("out/report/table1.md");
            assert!(table.contains("SoRA"), "{name} {what}: the other run is shown\n{table}");
            std::fs::write(&path, &whole).unwrap();
        }
    }
    world.rankbench(&["fsck", "--out", "out"]).assert().success();
}
