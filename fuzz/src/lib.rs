//! Rules that every target holds its reader to: no panic reaches the caller, none begins in this project's own code, and
//! memory stays within a small multiple of the file. libFuzzer itself watches time and the whole process's memory.

#[path = "../../datasets/tests/support/memory.rs"]
mod memory;
#[cfg(feature = "tensors")]
pub mod tiny;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

static DIR: OnceLock<PathBuf> = OnceLock::new();
static PANIC: Mutex<String> = Mutex::new(String::new());
/// The largest need of memory so far; a new one is printed.
static MOST: AtomicUsize = AtomicUsize::new(1 << 16);

/// Prepares the process: libFuzzer's hook, which aborts at every panic, makes way for one that lets a reader turn a
/// library's panic into an error.
pub fn start() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_path_buf();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.to_string();
        let place = info.location().map(|place| PathBuf::from(place.file()));
        if place.is_some_and(|place| place.is_relative() || place.starts_with(&root)) {
            eprintln!("a panic in this project's own code: {text}");
            std::process::abort();
        }
        *PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = text;
    }));
    dir();
}

/// The directory that inputs are written to.
pub fn dir() -> &'static Path {
    DIR.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("rankbench-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("the directory for temporary files can be written");
        dir
    })
}

/// Writes one input file.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir().join(name);
    std::fs::write(&path, bytes).expect("the directory for temporary files can be written");
    path
}

/// An input of two files: what stands before the first zero byte, and what stands after it.
pub fn two(input: &[u8]) -> (&[u8], Option<&[u8]>) {
    match input.iter().position(|&byte| byte == 0) {
        Some(at) => (&input[..at], Some(&input[at + 1..])),
        None => (input, None),
    }
}

/// Calls a reader on an input of so many bytes, and aborts where it breaks a rule.
pub fn check(size: usize, read: impl FnOnce()) {
    let (done, peak) = memory::peak_of(|| catch_unwind(AssertUnwindSafe(read)));
    if done.is_err() {
        let text = PANIC.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        eprintln!("a panic reached the caller: {text}");
        std::process::abort();
    }
    if peak > memory::bound(size) {
        eprintln!("{peak} bytes of memory for an input of {size}");
        std::process::abort();
    }
    if peak > MOST.load(Relaxed).saturating_mul(5) / 4 {
        MOST.store(peak, Relaxed);
        eprintln!("most memory so far: {peak} bytes for an input of {size}");
    }
}
