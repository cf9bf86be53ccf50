//! `rankbench watch` on a terminal: a pseudo-terminal that this test holds the other end of.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use support::World;

/// Codes that take the other screen of a terminal, and give it back.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";
/// Longest wait for something on the screen.
const WAIT: Duration = Duration::from_secs(30);

/// Both ends of a pseudo-terminal of some columns.
struct Pty {
    keys: File,
    terminal: File,
    seen: Receiver<Vec<u8>>,
    text: String,
}

impl Pty {
    fn new(columns: u16) -> Self {
        let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut ours, mut theirs) = (0, 0);
        // SAFETY: the pointers are valid, and the name and settings may be left out.
        let made = unsafe {
            libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null_mut(), &raw const size as *mut _)
        };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: both were just opened, and belong to nothing else.
        let (keys, terminal) = unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) };
        let (tell, seen) = channel();
        let mut reader = keys.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                let _ = tell.send(buffer[..count].to_vec());
            }
        });
        Pty { keys, terminal, seen, text: String::new() }
    }

    fn start(&self, world: &World, arguments: &[&str]) -> Child {
        let end = || Stdio::from(self.terminal.try_clone().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_rankbench"));
        command.current_dir(world.dir.path()).env("TERM", "xterm-256color").env_remove("COLUMNS").args(arguments);
        command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
    }

    /// Waits until the screen was sent `part`.
    fn expect(&mut self, part: &str) {
        let until = Instant::now() + WAIT;
        while !self.text.contains(part) {
            let Ok(bytes) = self.seen.recv_timeout(until.saturating_duration_since(Instant::now())) else {
                panic!("'{part}' was not shown: {:?}", self.text)
            };
            self.text += &String::from_utf8_lossy(&bytes);
        }
    }

    /// Whether a line is edited and echoed by the terminal, as a shell leaves it.
    fn is_cooked(&self) -> bool {
        // SAFETY: a zeroed termios is valid, and the call only fills it in.
        let mut mode: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: the descriptor is open and the pointer valid.
        assert_eq!(unsafe { libc::tcgetattr(self.terminal.as_raw_fd(), &mut mode) }, 0);
        mode.c_lflag & (libc::ICANON | libc::ECHO) == libc::ICANON | libc::ECHO
    }
}

/// A store with a finished run, and one that was cut off.
fn world() -> World {
    let world = World::new();
    world.run(&["--methods", "lora", "--seeds", "0,1", "--epochs", "1"]).assert().success();
    let runs = std::fs::read_dir(world.path("out/runs")).unwrap();
    let last = runs.map(|run| run.unwrap().path()).max().unwrap();
    std::fs::remove_file(last.join("DONE")).unwrap();
    world
}

/// Starts the view, does something to it, and holds that it ends well and gives the terminal back.
fn left_by(columns: u16, leave: impl FnOnce(&mut Pty, &Child)) {
    let (world, mut pty) = (world(), Pty::new(columns));
    assert!(pty.is_cooked());
    let mut child = pty.start(&world, &["watch", "out"]);
    pty.expect("q leaves");
    assert!(pty.text.contains(ENTER) && pty.text.contains("stopped") && !pty.is_cooked(), "{:?}", pty.text);
    leave(&mut pty, &child);
    assert!(child.wait().unwrap().success());
    pty.expect("1 done, 0 running, 1 stopped");
    pty.expect(LEAVE);
    assert!(pty.is_cooked(), "the terminal is as it was");
    let after = pty.text.rsplit(LEAVE).next().unwrap().to_string();
    pty.text = after;
    pty.expect("2 runs: 1 done");
}

#[test]
fn keys_leave_the_view_and_give_the_terminal_back() {
    left_by(120, |pty, _| pty.keys.write_all(b"q").unwrap());
    // Ctrl-C, on a narrow terminal.
    left_by(40, |pty, _| pty.keys.write_all(b"\x03").unwrap());
}

#[test]
fn a_signal_gives_the_terminal_back() {
    // SAFETY: the child was started here and not waited for.
    left_by(80, |_, child| assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGTERM) }, 0));
}

#[test]
fn the_view_ends_when_nothing_is_open() {
    let (world, mut pty) = (world(), Pty::new(100));
    let mut child = pty.start(&world, &["watch", "out", "--every", "1"]);
    pty.expect("q leaves");
    world.run(&["--methods", "lora", "--seeds", "0,1", "--epochs", "1"]).assert().success();
    assert!(child.wait().unwrap().success());
    pty.expect(LEAVE);
    pty.expect("2 runs: 2 done");
    let mut again = pty.start(&world, &["watch", "out"]);
    assert!(again.wait().unwrap().success());
    assert_eq!(pty.text.matches(ENTER).count(), 1, "a store in which nothing is open has no view: {:?}", pty.text);
}
