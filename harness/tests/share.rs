//! Several processes on one store: every run is made once, none is lost, none ends for the others' sake.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Output};
use std::time::{Duration, Instant, SystemTime};

use support::World;
use support::process::{process, run_dirs, wait_until};

fn start(world: &World, extra: &[&str]) -> Child {
    process(&world.run(extra)).spawn().unwrap()
}

fn finish(child: Child) -> String {
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&stderr).into_owned();
    assert!(status.success(), "{status}: {text}");
    text
}

fn manifest(run: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(run.join("manifest.json")).unwrap()).unwrap()
}

fn is_done(world: &World) -> bool {
    run_dirs(world, "out").iter().all(|run| run.join("DONE").is_file())
}

/// Ids of the runs of `world.run(extra)`.
fn ids(world: &World, extra: &[&str]) -> Vec<String> {
    let output = world.run(&[extra, &["--dry-run=toml"]].concat()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("# ")).map(str::to_string).collect()
}

/// The highest lease of a run, with the process id of its holder.
fn lease(run: &Path) -> Option<(PathBuf, u32)> {
    let leases = std::fs::read_dir(run).ok()?.flatten().map(|entry| entry.path());
    let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("lease-")?.parse::<u64>().ok();
    let path = leases.filter(|path| number(path).is_some()).max_by_key(number)?;
    let content: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).ok()?).ok()?;
    Some((path, content["holder"]["pid"].as_u64()? as u32))
}

/// A lease of a process on another machine.
fn foreign(silence: u64, is_released: bool) -> String {
    let holder = r#"{"host": "elsewhere", "boot": "another", "pid": 1, "started": 1}"#;
    format!(r#"{{"holder": {holder}, "since_unix": 1, "silence_seconds": {silence}, "is_released": {is_released}}}"#)
}

fn send(child: &Child, signal: i32) {
    // SAFETY: the process is our own child.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

#[test]
fn every_run_is_made_once_by_two_four_and_eight_processes() {
    let alone = World::new();
    alone.recipe("");
    let extra = ["--seeds", "0,1", "--tasks", "sst2,rte"];
    alone.run(&extra).assert().success();
    for count in [2, 4, 8] {
        let world = World::new();
        world.recipe("");
        let children: Vec<Child> = (0..count).map(|_| start(&world, &extra)).collect();
        children.into_iter().for_each(|child| {
            finish(child);
        });
        let runs = run_dirs(&world, "out");
        assert_eq!(runs.len(), 12);
        for run in &runs {
            assert_eq!(manifest(run)["restarts"], 0, "{count} processes: {} was made twice", run.display());
            let names = std::fs::read_dir(run).unwrap().flatten().map(|entry| entry.file_name());
            let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with("lease-")).collect();
            assert!(left.is_empty(), "{left:?} is left in {}", run.display());
        }
        world.rankbench(&["fsck", "--out", "out"]).assert().success();
        for table in ["table1.csv", "table1.md"] {
            let table = format!("out/report/{table}");
            let text = |world: &World| world.read(&table).replace(&world.dir.path().display().to_string(), "");
            assert_eq!(text(&world), text(&alone), "{count} processes: {table}");
        }
    }
}

#[test]
fn runs_of_a_killed_process_are_taken_over_at_once() {
    let world = World::new();
    let extra = ["--epochs", "60", "--checkpoint-every", "0"];
    let mut first = start(&world, &extra);
    let made_by = |pid: u32| run_dirs(&world, "out").into_iter().find(|run| lease(run).is_some_and(|(_, p)| p == pid));
    let pid = first.id();
    let is_at_work = || made_by(pid).is_some_and(|run| run.join("checkpoint.safetensors").exists());
    wait_until("a run of the first", &mut first, is_at_work);
    let run = made_by(pid).unwrap();
    let second = start(&world, &extra);
    send(&first, libc::SIGKILL);
    assert_eq!(first.wait().unwrap().signal(), Some(9));
    let text = finish(second);
    assert!(is_done(&world) && run_dirs(&world, "out").len() == 3);
    assert_eq!(manifest(&run)["restarts"], 1, "{text}");
    assert!(text.contains("goes on after step"), "{text}");
    world.rankbench(&["fsck", "--out", "out"]).assert().success();
}

#[test]
fn a_second_process_that_is_killed_leaves_the_run_whole() {
    let world = World::new();
    let extra = ["--methods", "sora", "--epochs", "150"];
    let mut first = start(&world, &extra);
    wait_until("its run", &mut first, || run_dirs(&world, "out").iter().any(|run| run.join("evals.csv").exists()));
    for milliseconds in [100, 300, 600] {
        let mut second = start(&world, &extra);
        std::thread::sleep(Duration::from_millis(milliseconds));
        send(&second, libc::SIGKILL);
        second.wait().unwrap();
    }
    finish(first);
    let run = run_dirs(&world, "out").remove(0);
    assert_eq!(manifest(&run)["restarts"], 0);
    let lines = std::fs::read_to_string(run.join("epochs.csv")).unwrap().lines().count();
    assert_eq!(lines, 151, "a header and every epoch");
    world.rankbench(&["fsck", "--out", "out"]).assert().success();
}

#[test]
fn reports_at_once_do_not_disturb_each_other() {
    let world = World::new();
    world.run(&["--methods", "lora"]).assert().success();
    let expected = world.read("out/report/results.csv");
    for _ in 0..3 {
        let report = || process(&world.rankbench(&["report", "--out", "out"])).spawn().unwrap();
        [(); 3].map(|()| report()).into_iter().for_each(|child| drop(finish(child)));
        assert_eq!(world.read("out/report/results.csv"), expected);
    }
    let left = std::fs::read_dir(world.path("out")).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_stopped_process_that_lives_keeps_its_run() {
    let world = World::new();
    let extra = ["--methods", "sora", "--epochs", "150"];
    let mut first = start(&world, &extra);
    wait_until("its run", &mut first, || run_dirs(&world, "out").iter().any(|run| run.join("evals.csv").exists()));
    send(&first, libc::SIGSTOP);
    let output = process(&world.run(&[&extra[..], &["--wait", "off"]].concat())).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{text}");
    assert!(text.contains("1 of 1 runs are made by other processes"), "{text}");
    send(&first, libc::SIGCONT);
    finish(first);
    assert_eq!(manifest(&run_dirs(&world, "out")[0])["restarts"], 0);
}

#[test]
fn a_holder_elsewhere_is_taken_over_once_it_was_silent_for_its_time() {
    let world = World::new();
    let extra = ["--methods", "lora"];
    let run = world.path("out/runs").join(&ids(&world, &extra)[0]);
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("lease-4"), foreign(3, false)).unwrap();
    let mut child = start(&world, &extra);
    let started = Instant::now();
    // Heartbeats whose clock jumps to the past and the future are heartbeats.
    for jump in [-1_000_000i64, 1_000_000, 0, -3_600, 3_600, 1, -1, 40, -40, 7, 500, -9, 12] {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs((1_700_000_000 + jump) as u64);
        let file = std::fs::OpenOptions::new().write(true).open(run.join("lease-4")).unwrap();
        file.set_modified(now).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        assert!(!run.join("manifest.json").exists(), "a holder that is heard lost its run");
        std::thread::sleep(Duration::from_millis(500));
    }
    let last = Instant::now();
    finish(child);
    assert!(last.elapsed() > Duration::from_secs(1), "it was silent for {:?} only", last.elapsed());
    assert!(started.elapsed() < Duration::from_secs(60));
    assert!(is_done(&world));
}

#[test]
fn a_lease_that_cannot_be_read_is_anothers() {
    let world = World::new();
    let extra = ["--methods", "lora", "--wait", "off"];
    let run = world.path("out/runs").join(&ids(&world, &extra)[0]);
    std::fs::create_dir_all(&run).unwrap();
    std::fs::write(run.join("lease-1"), "").unwrap();
    assert_eq!(world.run(&extra).output().unwrap().status.code(), Some(75));
    // What a process left behind that let it go is free.
    std::fs::write(run.join("lease-2"), foreign(600, true)).unwrap();
    finish(start(&world, &extra));
}

#[test]
fn a_process_that_lost_its_run_leaves_it_and_goes_on() {
    let world = World::new();
    let mut child = start(&world, &["--methods", "sora", "--epochs", "150"]);
    wait_until("its run", &mut child, || run_dirs(&world, "out").iter().any(|run| run.join("evals.csv").exists()));
    let run = run_dirs(&world, "out").remove(0);
    // Another machine held the process for dead, took the run over and was interrupted.
    std::fs::write(run.join("lease-2"), foreign(600, true)).unwrap();
    let text = finish(child);
    assert!(text.contains("was taken over by process 1 on elsewhere"), "{text}");
    assert!(is_done(&world));
    assert_eq!(manifest(&run)["restarts"], 1, "{text}");
}
