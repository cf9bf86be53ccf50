//! Runs that are cut off go on from their checkpoints and end as if nothing had happened.

mod support;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use support::World;
use support::process::{ended_or_killed, process, process_under};

/// Every method, evaluated within and at the end of epochs.
fn recipe(world: &World) {
    let methods: Vec<String> = methods::registry::METHODS.iter().map(|m| format!("{:?}", m.name)).collect();
    world.recipe("");
    let text =
        world.read("tiny.toml").replace("[\"lora\", \"adalora\", \"sora\"]", &format!("[{}]", methods.join(", ")));
    let text =
        text.replace("epochs = 2", "epochs = 10").replace("evaluate = { epochs = 1 }", "evaluate = { steps = 5 }");
    world.write("tiny.toml", text);
}

fn start(world: &World, out: &str, extra: &[&str]) -> Child {
    let arguments = [&["--out", out, "--checkpoint-every", "0"], extra].concat();
    process(&world.run(&arguments)).stdout(Stdio::null()).spawn().unwrap()
}

/// Files of every run that say what it came to, without times: by run and name.
fn results(out: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for run in std::fs::read_dir(out.join("runs")).unwrap().map(|entry| entry.unwrap().path()) {
        let id = run.file_name().unwrap().to_string_lossy().into_owned();
        for name in ["run.toml", "evals.csv", "ranks.csv", "predictions.csv", "adapter/adapter_model.safetensors"] {
            let bytes = std::fs::read(run.join(name)).unwrap_or_else(|e| panic!("{id}/{name}: {e}"));
            found.insert(format!("{id}/{name}"), format!("{bytes:?}"));
        }
        for name in ["steps.csv", "gates.csv"] {
            // A method without gates has no file of them.
            found.insert(format!("{id}/{name}"), std::fs::read_to_string(run.join(name)).unwrap_or_default());
        }
        let epochs = std::fs::read_to_string(run.join("epochs.csv")).unwrap();
        // epoch, steps, task loss, penalty, tokens, padded tokens: the third column is seconds.
        let untimed = |line: &str| {
            let fields: Vec<&str> = line.split(',').collect();
            [&fields[..2], &fields[3..7]].concat().join(",")
        };
        found.insert(format!("{id}/epochs"), epochs.lines().map(untimed).collect::<Vec<_>>().join("\n"));
        let outcome: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(run.join("outcome.json")).unwrap()).unwrap();
        found.insert(
            format!("{id}/outcome"),
            format!("{} {} {}", outcome["results"], outcome["parameters"], outcome["steps"]),
        );
        assert!(!run.join("checkpoint.safetensors").exists(), "{id}: a finished run has no checkpoint");
    }
    found
}

#[test]
fn a_sweep_that_is_killed_again_and_again_ends_as_an_undisturbed_one() {
    let kills: u64 = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12);
    let world = World::new();
    recipe(&world);
    let started = Instant::now();
    assert!(start(&world, "whole", &[]).wait().unwrap().success());
    let whole = started.elapsed();
    let (mut killed, mut draw) = (0, 7u64);
    loop {
        let mut child = start(&world, "torn", &[]);
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait =
            whole.mul_f64(0.04 + 0.16 * (draw >> 40) as f64 / (1u64 << 24) as f64).min(Duration::from_millis(800));
        let until = Instant::now() + if killed < kills { wait } else { Duration::from_secs(600) };
        let status = ended_or_killed(&mut child, until);
        if status.success() {
            break;
        }
        assert_eq!(status.signal(), Some(9), "it ended by itself: {status:?}");
        killed += 1;
    }
    assert!(killed >= kills.min(2), "it was killed {killed} times only");
    eprintln!("killed {killed} times; undisturbed it takes {whole:?}");
    let (whole, torn) = (results(&world.path("whole")), results(&world.path("torn")));
    assert_eq!(whole.keys().collect::<Vec<_>>(), torn.keys().collect::<Vec<_>>());
    for (name, content) in &whole {
        assert!(torn[name] == *content, "{name} differs after {killed} kills");
    }
    let table = |out: &str| world.read(&format!("{out}/report/table1.csv"));
    assert_eq!(table("whole"), table("torn"));
}

/// A run that is long enough to be stopped, once it has taken steps.
fn long_run(world: &World, wrap: &[&str]) -> Child {
    let command = world.run(&["--methods", "sora", "--epochs", "4000"]);
    let mut child = process_under(wrap, &command).stdout(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while Instant::now() < until {
        let runs = std::fs::read_dir(world.path("out/runs")).into_iter().flatten().flatten();
        if runs.map(|run| run.path()).any(|run| run.join("evals.csv").exists()) {
            return child;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    panic!("the run did not start: {:?}", child.wait_with_output());
}

fn send(child: &Child, signal: i32) {
    // SAFETY: the process is our own child.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

#[test]
fn stop_signals_save_the_run_within_a_second_and_end_with_75() {
    let world = World::new();
    let [int, term, hangup] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
    for signal in [int, term, hangup, libc::SIGUSR1, libc::SIGUSR2, libc::SIGXCPU, libc::SIGALRM] {
        let _ = std::fs::remove_dir_all(world.path("out"));
        let mut child = long_run(&world, &[]);
        send(&child, signal);
        let started = Instant::now();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(75), "signal {signal}");
        // A second on a machine of its own; tests share theirs.
        assert!(started.elapsed() < Duration::from_secs(3), "signal {signal}: {:?}", started.elapsed());
        let run = std::fs::read_dir(world.path("out/runs")).unwrap().next().unwrap().unwrap().path();
        assert!(run.join("checkpoint.safetensors").is_file(), "signal {signal}");
    }
}

#[test]
fn a_signal_that_the_starter_ignores_stays_ignored() {
    let world = World::new();
    let mut child = long_run(&world, &["nohup"]);
    send(&child, libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it ended, as if nohup had not been there");
    send(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(75));
}

#[test]
fn signals_that_a_shell_ignores_stay_ignored() {
    let world = World::new();
    // SIGINT is what a shell ignores for a command with `&` in a script.
    let mut child = long_run(&world, &["sh", "-c", "trap '' HUP INT; exec \"$0\" \"$@\""]);
    send(&child, libc::SIGHUP);
    send(&child, libc::SIGINT);
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "it ended, as if the shell had not ignored them");
    send(&child, libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(75));
}

#[test]
fn a_signal_in_the_first_moments_loses_nothing() {
    let world = World::new();
    for milliseconds in [0, 10, 30, 60, 100, 200, 500] {
        let mut child = start(&world, "out", &["--methods", "lora", "--epochs", "4000"]);
        std::thread::sleep(Duration::from_millis(milliseconds));
        send(&child, libc::SIGTERM);
        let status = child.wait().unwrap();
        // Before it listens there is nothing to save.
        let is_expected = status.code() == Some(75) || status.signal() == Some(libc::SIGTERM);
        assert!(is_expected, "after {milliseconds} ms: {status}");
    }
    world.run(&["--methods", "lora"]).assert().success();
    world.rankbench(&["fsck", "--out", "out"]).assert().success();
}

#[test]
fn a_resume_on_another_number_of_threads_says_so() {
    let world = World::new();
    let mut child = long_run(&world, &[]);
    send(&child, libc::SIGTERM);
    child.wait().unwrap();
    let mut command = world.run(&["--methods", "sora", "--epochs", "4000"]);
    command.env("OMP_NUM_THREADS", "2").timeout(Duration::from_secs(12));
    let text = support::one_line(&String::from_utf8_lossy(&command.output().unwrap().stderr));
    assert!(text.contains("resumed with 2 threads, begun with 1: rounding differs"), "{text}");
}

#[test]
fn a_damaged_checkpoint_is_said_and_the_run_starts_anew() {
    let world = World::new();
    let mut child = long_run(&world, &[]);
    send(&child, libc::SIGTERM);
    child.wait().unwrap();
    let run = std::fs::read_dir(world.path("out/runs")).unwrap().next().unwrap().unwrap().path();
    let path = run.join("checkpoint.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let mut child = world.run(&["--methods", "sora", "--epochs", "4000"]);
    child.timeout(Duration::from_secs(12));
    let output = child.output().unwrap();
    let text = support::one_line(&String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("its checkpoint cannot be used") && text.contains("starts anew"), "{text}");
}
