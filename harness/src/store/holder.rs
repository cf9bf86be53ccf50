//! A process, told apart from every other on any machine.

use std::fmt;
use std::fs;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A process that makes a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Name of its machine.
    pub host: String,
    /// Boot of the machine and namespace of its process ids; empty where the system names neither.
    pub boot: String,
    /// Process id.
    pub pid: u32,
    /// Its start, in ticks since the boot: a process id comes again.
    pub started: u64,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

/// This process.
pub fn this() -> &'static Holder {
    static THIS: OnceLock<Holder> = OnceLock::new();
    THIS.get_or_init(|| {
        let pid = std::process::id();
        Holder { host: host(), boot: boot(), pid, started: started(pid).unwrap_or_default() }
    })
}

/// A short name of this process for files that only it writes.
pub fn token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| {
        let Holder { host, boot, pid, started } = this();
        hex::encode(&Sha256::digest(format!("{host} {boot} {pid} {started}"))[..6])
    })
}

impl Holder {
    /// Whether this machine, since its last boot, is the holder's: only here it is seen whether the process lives.
    pub fn is_here(&self) -> bool {
        !self.boot.is_empty() && self.boot == this().boot
    }

    /// Whether the process has ended for certain.
    pub fn is_gone(&self) -> bool {
        self.is_here() && started(self.pid) != Some(self.started)
    }
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".into() } else { name.trim().into() }
}

/// Containers of one machine share its boot and may not see each other's processes.
fn boot() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match fs::read_link("/proc/self/ns/pid") {
        Ok(namespace) if !boot.trim().is_empty() => format!("{} {}", boot.trim(), namespace.display()),
        _ => String::new(),
    }
}

/// Start of a process in ticks since the boot; none where it has ended.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the state is the first field after it, the start the twentieth.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let has_ended = ["Z", "X"].contains(fields.first()?);
    if has_ended { None } else { fields.get(19)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_another_of_its_id_does_not() {
        let this = this();
        assert!(this.started > 0 && !this.boot.is_empty());
        assert!(this.is_here() && !this.is_gone());
        assert!(Holder { started: this.started + 1, ..this.clone() }.is_gone());
        let elsewhere = Holder { boot: "another".into(), pid: 0, ..this.clone() };
        assert!(!elsewhere.is_here() && !elsewhere.is_gone(), "nothing is known of another machine's processes");
    }

    #[test]
    fn a_process_that_ended_is_gone_before_its_parent_looks() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let holder = |started| Holder { pid: child.id(), started, ..this().clone() };
        let is_zombie = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            stat.rsplit_once(')').unwrap().1.trim().starts_with('Z')
        };
        while !is_zombie() {
            std::thread::yield_now();
        }
        assert_eq!(started(child.id()), None);
        assert!(holder(0).is_gone());
        child.wait().unwrap();
    }
}
