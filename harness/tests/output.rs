//! Output that cannot be written ends no work: a closed terminal, a reader that left, a log on a full disk.

mod support;

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, ExitStatus, Stdio};
use std::ptr::null_mut;

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

/// Exit status of a command whose standard error is a terminal with so many columns, and what it shows.
fn on_a_terminal(mut command: Command, columns: u16) -> (ExitStatus, String) {
    let (mut ours, mut theirs) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: both descriptors are written, the name and the settings may be null, the size is read.
    let opened = unsafe { libc::openpty(&mut ours, &mut theirs, null_mut(), null_mut(), &size) };
    assert_eq!(opened, 0);
    // SAFETY: both were opened just now and are no one else's.
    let (mut ours, theirs) = unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
    let mut child = command.stdout(Stdio::null()).stderr(theirs).spawn().unwrap();
    // Without the command, which holds their end, too, the terminal ends with the process: then reading fails.
    drop(command);
    let mut shown = Vec::new();
    let _ = ours.read_to_end(&mut shown);
    (child.wait().unwrap(), String::from_utf8_lossy(&shown).into_owned())
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
fn a_message_and_its_advice_are_a_line_each_in_a_log() {
    let world = World::new();
    let command = || {
        world.run(&[
            "--methods",
            "lora",
            "--out",
            "/dev/null/a/directory/that/cannot/be/made/because/a/device/is/no/directory",
        ])
    };
    let output = command().output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let error: Vec<&str> = text.lines().skip_while(|line| !line.contains("cannot write")).collect();
    assert_eq!(error.len(), 2, "{text}");
    assert!(error[0].ends_with("(os error 20)") && error[1].trim_start().starts_with("help: finished runs"), "{text}");
    assert!(error[1].ends_with("start the same command again") && error.iter().all(|line| line.len() > 80), "{text}");
    let (status, text) = on_a_terminal(process(&command()), 60);
    assert_eq!(status.code(), Some(6));
    let error: Vec<&str> = text.lines().skip_while(|line| !line.contains("cannot write")).collect();
    assert!(error.len() > 4 && error.iter().all(|line| line.chars().count() <= 60), "{text}");
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
