//! Signals that ask the process to stop: it saves the run in work and ends with 75.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
use signal_hook::iterator::Signals;

use crate::env::output;
use crate::error::{Error, Result};

/// Signals of a terminal, a job system and its time limit.
const STOPPING: [(i32, &str); 7] = [
    (SIGINT, "Ctrl-C"),
    (SIGTERM, "SIGTERM"),
    (SIGHUP, "SIGHUP"),
    (SIGUSR1, "SIGUSR1"),
    (SIGUSR2, "SIGUSR2"),
    (SIGXCPU, "SIGXCPU"),
    (SIGALRM, "SIGALRM"),
];

/// A flag that the first of these signals sets. A second Ctrl-C ends the process at once. A signal that the process was started
/// to ignore (`nohup`, `trap '' HUP`) stays ignored.
///
/// # Errors
/// The system refuses to listen.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let heard = STOPPING.iter().map(|(signal, _)| *signal).filter(|&signal| !is_ignored(signal));
    let cannot = |e: std::io::Error| Error::Environment(format!("cannot listen for signals: {e}"));
    let mut signals = Signals::new(heard).map_err(cannot)?;
    let flag = Arc::clone(&stop);
    let listen = move || {
        for signal in signals.forever() {
            if flag.swap(true, Ordering::Relaxed) && signal == SIGINT {
                // SAFETY: ends the process at once. `exit` would run libtorch's destructors under the feet of the run in work.
                unsafe { libc::_exit(130) };
            }
            let name = STOPPING.iter().find(|(known, _)| *known == signal).map_or("a signal", |(_, name)| name);
            output::note(format_args!("{name}: saving and stopping; press Ctrl-C again to end at once"));
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(listen).map_err(cannot)?;
    Ok(stop)
}

/// A flag that any of these signals sets, for a command that has nothing to save: nothing is said.
///
/// # Errors
/// The system refuses to listen.
pub fn leave_flag() -> Result<Arc<AtomicBool>> {
    let leave = Arc::new(AtomicBool::new(false));
    for (signal, _) in STOPPING.iter().filter(|(signal, _)| !is_ignored(*signal)) {
        signal_hook::flag::register(*signal, Arc::clone(&leave))
            .map_err(|e| Error::Environment(format!("cannot listen for signals: {e}")))?;
    }
    Ok(leave)
}

/// Whether the process was started to ignore a signal.
fn is_ignored(signal: i32) -> bool {
    // SAFETY: a zeroed action is valid, and a call without a new one only fills it in.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let known = unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) } == 0;
    known && action.sa_sigaction == libc::SIG_IGN
}
