//! The binary as a process of its own, to be watched, stopped and killed.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::World;

/// A command of [`World`] as the standard library's, which can be started without waiting for it.
pub fn process(command: &assert_cmd::Command) -> Command {
    process_under(&[], command)
}

/// The same as the last arguments of another program; the command alone where there is none. SIGINT and SIGHUP are heard: a starter
/// in the background hands them down ignored.
pub fn process_under(wrapper: &[&str], command: &assert_cmd::Command) -> Command {
    let mut plain = match wrapper {
        [] => Command::new(command.get_program()),
        [program, arguments @ ..] => {
            let mut plain = Command::new(program);
            plain.args(arguments).arg(command.get_program());
            plain
        }
    };
    plain.args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        plain.current_dir(dir);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => plain.env(name, value),
            None => plain.env_remove(name),
        };
    }
    plain.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // SAFETY: `signal` may be called between fork and exec.
    unsafe {
        plain.pre_exec(|| {
            for signal in [libc::SIGINT, libc::SIGHUP] {
                libc::signal(signal, libc::SIG_DFL);
            }
            Ok(())
        });
    }
    plain
}

/// Waits for a process to end, and kills it at `until`.
pub fn ended_or_killed(child: &mut Child, until: Instant) -> ExitStatus {
    loop {
        match child.try_wait().unwrap() {
            Some(status) => return status,
            None if Instant::now() > until => {
                child.kill().unwrap();
                return child.wait().unwrap();
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Run directories below `out`, by name.
pub fn run_dirs(world: &World, out: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.path(out).join("runs")).into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

/// Waits until `is_so`, or gives up after a minute.
pub fn wait_until(what: &str, child: &mut Child, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within a minute");
        assert!(child.try_wait().unwrap().is_none(), "{what}: the process ended");
        std::thread::sleep(Duration::from_millis(10));
    }
}
