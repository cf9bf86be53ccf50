//! Several worker processes of one command: the runs are those of one process, and a worker that dies is made up for.

mod support;

use std::collections::BTreeMap;
use std::process::Child;
use std::time::Duration;

use support::World;
use support::process::{process, run_dirs, wait_until};

/// Predictions and ranks of every run, by name.
fn results(world: &World, out: &str) -> BTreeMap<String, [String; 3]> {
    let of = |run: &std::path::PathBuf| {
        let name = run.file_name().unwrap().to_string_lossy().into_owned();
        let files = ["predictions.csv", "ranks.csv", "evals.csv"];
        (name, files.map(|file| std::fs::read_to_string(run.join(file)).unwrap()))
    };
    run_dirs(world, out).iter().map(of).collect()
}

/// Processes whose parent this is.
fn children(parent: &Child) -> Vec<u32> {
    let of = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()?;
        Some((pid, parent))
    };
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|p| p.file_name().to_str()?.parse().ok());
    pids.filter_map(of).filter(|(_, of)| *of == parent.id()).map(|(pid, _)| pid).collect()
}

#[test]
fn workers_make_what_one_process_makes() {
    let world = World::new();
    let extra = ["--tasks", "sst2,rte", "--seeds", "0,1"];
    world.run(&[&extra[..], &["--out", "alone"]].concat()).assert().success();
    let pool = world.run(&[&extra[..], &["--jobs", "3"]].concat()).assert().success();
    let stderr = String::from_utf8_lossy(&pool.get_output().stderr).into_owned();
    let stdout = String::from_utf8_lossy(&pool.get_output().stdout).into_owned();
    assert!(stderr.contains("[12/12]") && stderr.contains("on job 3"), "{stderr}");
    assert!(stdout.contains("Table 1") && !stdout.contains("\"steps\""), "{stdout}");
    assert!(results(&world, "alone") == results(&world, "out"), "workers made other numbers");
    assert_eq!(world.read("alone/report/table1.csv"), world.read("out/report/table1.csv"));
    // Everything is done: a second start makes nothing and says so.
    let again = world.run(&[&extra[..], &["--jobs", "2"]].concat()).assert().success();
    assert!(String::from_utf8_lossy(&again.get_output().stderr).contains("12 of 12 runs are finished already"));
}

/// Workers have the flags of their parent, and none may delete what another has made.
#[test]
fn finished_runs_are_made_again_once_by_all_workers_together() {
    let world = World::new();
    let extra = ["--methods", "lora,sora", "--seeds", "0,1", "--jobs", "2"];
    world.run(&extra).assert().success();
    assert!(world.path("out/recipes/tiny.toml").is_file(), "the resolved recipe is stored");
    let again = world.run(&[&extra[..], &["--force"]].concat()).assert().success();
    let stderr = String::from_utf8_lossy(&again.get_output().stderr).into_owned();
    assert_eq!(stderr.matches("deleted, it is made again").count(), 4, "{stderr}");
    assert!(run_dirs(&world, "out").iter().all(|run| run.join("DONE").is_file()));
}

#[test]
fn a_worker_that_is_killed_is_left_out_and_its_run_is_made() {
    let world = World::new();
    let mut parent =
        process(&world.run(&["--epochs", "60", "--jobs", "2", "--checkpoint-every", "0"])).spawn().unwrap();
    let at_work = || run_dirs(&world, "out").iter().filter(|run| run.join("checkpoint.safetensors").exists()).count();
    wait_until("two runs at work", &mut parent, || at_work() == 2);
    let workers = children(&parent);
    assert_eq!(workers.len(), 2);
    // SAFETY: the worker of our own child.
    assert_eq!(unsafe { libc::kill(workers[0] as i32, libc::SIGKILL) }, 0);
    let output = parent.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("was left out: it was ended by signal 9") && text.contains("goes on after step"), "{text}");
    assert!(run_dirs(&world, "out").iter().all(|run| run.join("DONE").is_file()));
}

#[test]
fn a_stop_signal_reaches_the_workers() {
    let world = World::new();
    let mut parent = process(&world.run(&["--epochs", "4000", "--jobs", "2"])).spawn().unwrap();
    let at_work = || run_dirs(&world, "out").iter().filter(|run| run.join("evals.csv").exists()).count();
    wait_until("two runs at work", &mut parent, || at_work() >= 2);
    let workers = children(&parent);
    // SAFETY: our own child.
    assert_eq!(unsafe { libc::kill(parent.id() as i32, libc::SIGTERM) }, 0);
    let output = parent.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
    for pid in workers {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "worker {pid} is left");
    }
    let saved = run_dirs(&world, "out").iter().filter(|run| run.join("checkpoint.safetensors").exists()).count();
    assert_eq!(saved, 2);
}

#[test]
fn workers_of_a_parent_that_died_stop_and_save() {
    let world = World::new();
    let mut parent = process(&world.run(&["--epochs", "4000", "--jobs", "2"])).spawn().unwrap();
    let at_work = || run_dirs(&world, "out").iter().filter(|run| run.join("evals.csv").exists()).count();
    wait_until("two runs at work", &mut parent, || at_work() >= 2);
    let workers = children(&parent);
    parent.kill().unwrap();
    parent.wait().unwrap();
    let is_left = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim().starts_with('Z'))
    };
    for _ in 0..100 {
        if !workers.iter().any(is_left) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(!workers.iter().any(is_left), "workers go on without their parent");
    let saved = run_dirs(&world, "out").iter().filter(|run| run.join("checkpoint.safetensors").exists()).count();
    assert_eq!(saved, 2);
}

#[test]
fn workers_that_all_fail_give_their_error_and_code() {
    let world = World::new();
    let output = world.run(&["--backbone", "nowhere", "--jobs", "2"]).output().unwrap();
    let text = support::one_line(&String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("every worker failed") && text.contains("nowhere"), "{text}");
    let output = world.run(&["--gpus", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
}
