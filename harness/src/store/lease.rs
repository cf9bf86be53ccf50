//! A run's lease: the right of one process to write its directory, safe on file systems that are shared over a network.
//!
//! A lease is a file `lease-<number>`, and the highest number holds. It is made by a hard link, which succeeds for one process only, and is
//! written by no other process than its holder: so nothing is ever taken away under someone's feet. A run is taken over by
//! making the next number; the one before finds out when it writes next, and leaves the run.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::files::{PARTIAL, write_atomically};
use crate::store::holder::{self, Holder};
use crate::store::unix_time;

/// Beginning of a lease's name.
pub const PREFIX: &str = "lease-";
/// Time between two heartbeats of a holder.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Silence after which a holder on another machine counts as gone. An NFS client may show a file's times a minute late.
const SILENCE: Duration = Duration::from_secs(120);

/// Content of a lease's file. Its time of change is the heartbeat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaseFile {
    /// Its holder.
    pub holder: Holder,
    /// When it was made, in seconds since 1970.
    pub since_unix: u64,
    /// Silence after which others may take the run over.
    pub silence_seconds: u64,
    /// Whether the holder has let it go.
    #[serde(default)]
    pub is_released: bool,
}

/// A lease that this process holds; released when it is dropped.
#[derive(Debug)]
pub struct Lease {
    dir: PathBuf,
    number: u64,
    content: LeaseFile,
    /// Ends the heartbeat when it is dropped.
    heart: Option<(Sender<()>, JoinHandle<()>)>,
}

/// Result of asking for a lease.
#[derive(Debug)]
pub enum Claim {
    /// It is this process's.
    Mine(Lease),
    /// Another process has it.
    Other(Holder),
}

/// Heartbeats of holders on other machines as this process saw them. It is counted by its own clock how long none came, so
/// clocks that differ or jump do no harm.
#[derive(Debug, Default)]
pub struct Watch {
    seen: Mutex<HashMap<PathBuf, (SystemTime, Instant)>>,
}

impl Watch {
    fn is_silent(&self, path: &Path, beat: SystemTime, silence: Duration) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = seen.entry(path.to_path_buf()).or_insert((beat, Instant::now()));
        if known.0 != beat {
            *known = (beat, Instant::now());
        }
        known.1.elapsed() >= silence
    }
}

/// A lease as another process sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Its number.
    pub number: u64,
    /// Its content; none where the file cannot be read.
    pub content: Option<LeaseFile>,
    /// Last heartbeat, by the file system's clock.
    pub beat: SystemTime,
}

impl Seen {
    /// Its holder.
    pub fn holder(&self) -> Holder {
        let unknown = || Holder { host: "an unknown machine".into(), boot: String::new(), pid: 0, started: 0 };
        self.content.as_ref().map_or_else(unknown, |content| content.holder.clone())
    }

    /// Whether its holder let it go, or has ended for certain.
    pub fn is_free(&self) -> bool {
        self.content.as_ref().is_some_and(|content| content.is_released || content.holder.is_gone())
    }

    /// Whether it may be taken over. A process that lives on this machine is never taken from, whether it is heard or not.
    fn is_stale(&self, path: &Path, watch: &Watch) -> bool {
        let silence = self.content.as_ref().map_or(SILENCE, |content| Duration::from_secs(content.silence_seconds));
        self.is_free() || (!self.holder().is_here() && watch.is_silent(path, self.beat, silence))
    }
}

/// The lease of a run's directory that holds, if there is one.
///
/// # Errors
/// The directory cannot be read.
pub fn look(dir: &Path) -> Result<Option<Seen>> {
    loop {
        let Some(number) = latest(dir)? else { return Ok(None) };
        // Opening it asks the server for its times.
        let file = match File::open(path_of(dir, number)) {
            Ok(file) => file,
            // It has just gone, with the run finished or taken over.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::input(&path_of(dir, number), e)),
        };
        let beat = file.metadata().and_then(|meta| meta.modified()).map_err(|e| Error::input(dir, e))?;
        return Ok(Some(Seen { number, content: serde_json::from_reader(file).ok(), beat }));
    }
}

/// Asks for the lease of a run's directory.
///
/// # Errors
/// The directory cannot be read or written.
pub fn claim(dir: &Path, watch: &Watch) -> Result<Claim> {
    let content = LeaseFile {
        holder: holder::this().clone(),
        since_unix: unix_time::now(),
        silence_seconds: SILENCE.as_secs(),
        is_released: false,
    };
    loop {
        let seen = look(dir)?;
        let number = seen.as_ref().map_or(1, |seen| seen.number + 1);
        if let Some(seen) = seen.filter(|seen| !seen.is_stale(&path_of(dir, seen.number), watch)) {
            return Ok(Claim::Other(seen.holder()));
        }
        let is_made = make(dir, number, &content).map_err(|e| Error::output(&path_of(dir, number), e))?;
        if !is_made {
            continue;
        }
        // What was seen may have been old, and the number one that was there before.
        if latest(dir)? != Some(number) {
            let _ = fs::remove_file(path_of(dir, number));
            continue;
        }
        numbers(dir)?.filter(|&older| older < number).for_each(|older| {
            let _ = fs::remove_file(path_of(dir, older));
        });
        let mut lease = Lease { dir: dir.to_path_buf(), number, content, heart: None };
        lease.heart = Some(lease.beat()?);
        return Ok(Claim::Mine(lease));
    }
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number}"))
}

fn numbers(dir: &Path) -> Result<impl Iterator<Item = u64>> {
    let entries = fs::read_dir(dir).map_err(|e| Error::output(dir, e))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok()))
}

fn latest(dir: &Path) -> Result<Option<u64>> {
    Ok(numbers(dir)?.max())
}

/// Makes a lease's file; no, where another process was first.
fn make(dir: &Path, number: u64, content: &LeaseFile) -> std::io::Result<bool> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let bytes = serde_json::to_vec(content)?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let own = dir.join(format!("{PREFIX}{number}.{}-{count}{PARTIAL}", holder::token()));
    let path = path_of(dir, number);
    let written = File::create(&own).and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()));
    let linked = written.and_then(|()| fs::hard_link(&own, &path));
    // Over a network the answer to a link may be lost, and its repetition fail: the count of names tells.
    let is_mine = fs::metadata(&own).is_ok_and(|meta| meta.nlink() == 2);
    let _ = fs::remove_file(&own);
    match linked {
        _ if is_mine => Ok(true),
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) if has_no_links(&e) => make_without_links(&path, &bytes),
        Err(e) => Err(e),
    }
}

/// Whether the file system knows no hard links.
fn has_no_links(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported
        || [libc::EPERM, libc::ENOSYS, libc::EOPNOTSUPP].iter().any(|&code| error.raw_os_error() == Some(code))
}

fn make_without_links(path: &Path, bytes: &[u8]) -> std::io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(bytes).and_then(|()| file.sync_all()).map(|()| true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

impl Lease {
    /// Whether the lease still holds.
    ///
    /// # Errors
    /// Another process took the run over; the directory cannot be read.
    pub fn check(&self) -> Result<()> {
        if latest(&self.dir)? == Some(self.number) {
            return Ok(());
        }
        let run = self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let holder = look(&self.dir)?.map_or("someone, who removed its lease".into(), |seen| seen.holder().to_string());
        Err(Error::LeaseLost { run, holder })
    }

    /// Starts the heartbeat.
    fn beat(&self) -> Result<(Sender<()>, JoinHandle<()>)> {
        let (sender, ended) = mpsc::channel();
        let path = path_of(&self.dir, self.number);
        let beat = move || {
            while ended.recv_timeout(HEARTBEAT) == Err(RecvTimeoutError::Timeout) {
                // A beat that fails comes again; the file is gone where the run was taken over.
                let now = FileTimes::new().set_modified(SystemTime::now());
                let _ = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_times(now));
            }
        };
        let thread = std::thread::Builder::new().name("heartbeat".into()).spawn(beat);
        let thread = thread.map_err(|e| Error::Environment(format!("cannot start a thread for a heartbeat: {e}")))?;
        Ok((sender, thread))
    }
}

impl Drop for Lease {
    /// Ends the heartbeat and releases the lease. Its file stays until the run is done: its number must not come again before.
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.heart.take() {
            drop(sender);
            let _ = thread.join();
        }
        if self.check().is_err() {
            return;
        }
        let path = path_of(&self.dir, self.number);
        if self.dir.join("DONE").exists() {
            let _ = fs::remove_file(path);
        } else if let Ok(bytes) = serde_json::to_vec(&LeaseFile { is_released: true, ..self.content.clone() }) {
            let _ = write_atomically(&path, &bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_gets_a_lease() {
        let dir = tempfile::tempdir().unwrap();
        for round in 1..=20 {
            let claims: Vec<Claim> = std::thread::scope(|scope| {
                let claim = || claim(dir.path(), &Watch::default()).unwrap();
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let mine: Vec<&Claim> = claims.iter().filter(|claim| matches!(claim, Claim::Mine(_))).collect();
            assert_eq!(mine.len(), 1, "round {round}");
            drop(claims);
            // Dropped is released, and the number is not used again.
            let seen = look(dir.path()).unwrap().unwrap();
            assert!(seen.is_free() && seen.number == round, "round {round}: {seen:?}");
        }
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 1, "nothing but the last lease is left");
    }

    #[test]
    fn a_lease_of_a_finished_run_goes_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let Claim::Mine(lease) = claim(dir.path(), &Watch::default()).unwrap() else { panic!("it was free") };
        fs::write(dir.path().join("DONE"), "").unwrap();
        drop(lease);
        assert_eq!(look(dir.path()).unwrap(), None);
    }

    #[test]
    fn a_lease_that_was_taken_over_says_by_whom() {
        let dir = tempfile::tempdir().unwrap();
        let Claim::Mine(lease) = claim(dir.path(), &Watch::default()).unwrap() else { panic!("it was free") };
        lease.check().unwrap();
        let other = Holder { host: "elsewhere".into(), ..lease.content.holder.clone() };
        let content = LeaseFile { holder: other, ..lease.content.clone() };
        fs::write(dir.path().join("lease-2"), serde_json::to_vec(&content).unwrap()).unwrap();
        let error = lease.check().unwrap_err().to_string();
        assert!(error.contains("elsewhere"), "{error}");
        drop(lease);
        assert!(!look(dir.path()).unwrap().unwrap().content.unwrap().is_released, "the other's lease is not touched");
    }

    /// Without hard links a lease is made by creating its file.
    #[test]
    fn file_systems_without_links_give_one_lease() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease-1");
        assert!(make_without_links(&path, b"{}").unwrap());
        assert!(!make_without_links(&path, b"{}").unwrap());
        assert!(has_no_links(&std::io::Error::from_raw_os_error(libc::EPERM)));
    }
}
