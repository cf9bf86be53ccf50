//! Stop signals when the last run ends or all are done: nothing is lost, and the exit code says whether the report is written.

mod support;

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use support::process::{process, run_dirs, wait_until};
use support::stored::{SMALL, write_runs};
use support::{World, rte};

const LORA: [&str; 2] = ["--methods", "lora"];

fn start(world: &World, more: &[&str]) -> Child {
    process(&world.run(&[&LORA[..], more].concat())).stdout(Stdio::null()).spawn().unwrap()
}

/// Sends SIGTERM, and waits until the process has heard it.
fn stop(child: &mut Child) -> impl BufRead + use<> {
    // SAFETY: the process is our own child.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0);
    let mut messages = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("SIGTERM: ") {
        line.clear();
        assert_ne!(messages.read_line(&mut line).unwrap(), 0, "it ended without a word on the signal");
    }
    messages
}

fn rest(messages: impl BufRead) -> String {
    messages.lines().map_while(Result::ok).collect::<Vec<_>>().join("\n")
}

fn is_done(world: &World) -> bool {
    run_dirs(world, "out").iter().any(|run| run.join("DONE").exists())
}

/// A report is asked for, and reads a file that comes to no end before it is told to.
#[test]
fn a_stop_signal_before_the_report_is_written_leaves_it_to_the_same_command() {
    let world = World::new();
    world.run(&LORA).assert().success();
    let before = world.read("out/report/report.html");
    let pipe = world.path("out/timings.csv");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = start(&world, &[]);
    // Opened once the report reads it, which is when all runs are done.
    let writer = OpenOptions::new().write(true).open(&pipe).unwrap();
    let messages = stop(&mut child);
    drop(writer);
    let text = rest(messages);
    assert_eq!(child.wait().unwrap().code(), Some(75), "{text}");
    assert!(text.contains("interrupted before the report was whole"), "{text}");
    assert!(world.read("out/report/report.html") == before, "the report before is as it was");
    std::fs::remove_file(&pipe).unwrap();
    let again = world.run(&LORA).assert().success();
    let text = String::from_utf8_lossy(&again.get_output().stderr).into_owned();
    assert!(text.contains("1 of 1 runs are finished already"), "{text}");
}

#[test]
fn a_stop_signal_while_the_report_is_written_leaves_none_torn() {
    let world = World::new();
    world.run(&LORA).assert().success();
    std::fs::remove_dir_all(world.path("out/report")).unwrap();
    write_runs(&world.path("out/runs"), 600, SMALL);
    let mut child = start(&world, &[]);
    let is_written = || {
        let entries = std::fs::read_dir(world.path("out")).unwrap().flatten();
        entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with(".report-"))
    };
    let until = Instant::now() + Duration::from_secs(60);
    while !is_written() {
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none(), "no report was begun");
        std::thread::sleep(Duration::from_millis(1));
    }
    let messages = stop(&mut child);
    let stopped = Instant::now();
    let text = rest(messages);
    assert_eq!(child.wait().unwrap().code(), Some(75), "{text}");
    assert!(stopped.elapsed() < Duration::from_secs(3), "{:?}", stopped.elapsed());
    assert!(!world.path("out/report").exists() && !is_written(), "nothing of it is left");
}

#[test]
fn a_stop_signal_in_the_last_evaluation_ends_with_75_and_loses_nothing() {
    for split in ["official", "sora"] {
        let world = World::new();
        let recipe = world.recipe("");
        let text = world.read("tiny.toml").replace("epochs = 2", "epochs = 1").replace("official", split);
        let text = text.replace("sst2", "rte");
        std::fs::write(recipe, text).unwrap();
        // Many rows make the only evaluation long.
        world.write("glue/RTE/dev.tsv", rte(80_000));
        let mut child = start(&world, &["--checkpoint-every", "0"]);
        let has = |name: &str| run_dirs(&world, "out").iter().any(|run| run.join(name).exists());
        // Six steps, each saved with its line; after the last there is nothing but the evaluation.
        let steps = |run: &PathBuf| std::fs::read_to_string(run.join("steps.csv")).unwrap_or_default().lines().count();
        wait_until("its last step", &mut child, || run_dirs(&world, "out").iter().any(|run| steps(run) == 7));
        std::thread::sleep(Duration::from_millis(300));
        let messages = stop(&mut child);
        assert!(!has("evals.csv"), "the moment has passed");
        let text = rest(messages);
        assert_eq!(child.wait().unwrap().code(), Some(75), "{split}: {text}");
        // One set was scored to its end, and with it the run; of two the second had not begun.
        assert_eq!(is_done(&world), split == "official", "{split}: {text}");
        assert_eq!(has("checkpoint.safetensors"), split == "sora", "{split}");
        world.run(&LORA).assert().success();
        world.rankbench(&["fsck", "--out", "out"]).assert().success();
        assert!(is_done(&world) && world.path("out/report/report.html").is_file());
    }
}
