//! Output that cannot be written ends no work: a closed terminal, a reader that left, a log on a full disk.

mod support;

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use support::World;
use support::process::{process, process_under, run_dirs};

/// A device on which every write fails for want of space.
fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// A pipe whose reader has left.
fn without_reader() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Exit code of a command with these outputs.
fn code(mut command: Command, stdout: Stdio, stderr: Stdio) -> i32 {
    command.stdout(stdout).stderr(stderr).status().unwrap().code().expect("it was killed by a signal")
}

fn done(world: &World) -> usize {
    run_dirs(world, "out").iter().filter(|dir| dir.join("DONE").is_file()).count()
}

#[test]
fn a_sweep_whose_messages_cannot_be_written_makes_every_run() {
    for stderr in [full, without_reader] {
        let world = World::new();
        let command = process(&world.run(&["--methods", "lora,sora"]));
        assert_eq!(code(command, Stdio::null(), stderr()), 0);
        assert_eq!(done(&world), 2);
        assert!(world.path("out/report/table1.md").is_file());
    }
}

#[test]
fn a_sweep_whose_reader_left_finishes_its_work() {
    let world = World::new();
    let command = process(&world.run(&["--methods", "lora,sora"]));
    assert_eq!(code(command, without_reader(), without_reader()), 0);
    assert_eq!(done(&world), 2);
    let report = || process(&world.rankbench(&["report", "--out", "out"]));
    assert_eq!(code(report(), without_reader(), Stdio::null()), 0);
    // Results that reached no one for want of space are said by the exit code.
    assert_eq!(code(report(), full(), full()), 6);
}

#[test]
fn streams_that_were_closed_before_the_start_are_no_matter() {
    let world = World::new();
    let closed = ["sh", "-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"];
    let shell = process_under(&closed, &world.run(&["--methods", "lora"]));
    assert_eq!(code(shell, Stdio::null(), Stdio::null()), 0);
    assert_eq!(done(&world), 1);
}

#[test]
fn an_error_keeps_its_exit_code_where_its_message_cannot_be_written() {
    let world = World::new();
    world.recipe("[[override]]\nmethods = [\"lora\"]\ntrain = { lr = 1e30 }\n");
    let command = process(&world.run(&["--methods", "lora"]));
    assert_eq!(code(command, full(), full()), 5);
    for (arguments, expected) in [(["run", "--recipe", "nowhere"], 2), (["run", "--seeds", "x"], 2)] {
        assert_eq!(code(process(&world.rankbench(&arguments)), full(), full()), expected, "{arguments:?}");
    }
    assert_eq!(code(process(&world.rankbench(&["--help"])), without_reader(), without_reader()), 0);
}
