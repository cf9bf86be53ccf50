//! The binary as a process of its own, to be watched, stopped and killed.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::World;

/// A command of [`World`] as the standard library's, which can be started without waiting for it.
pub fn process(command: &assert_cmd::Command) -> std::process::Command {
    let mut plain = std::process::Command::new(command.get_program());
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
    plain
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
