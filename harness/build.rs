//! Bakes the commit of the source tree into the program: what a later `git` would say is that of another tree.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Paths of the source tree that the program is made of.
const SOURCES: [&str; 9] = [
    "Cargo.toml",
    "Cargo.lock",
    "torch-ext",
    "encoders",
    "methods",
    "datasets",
    "harness",
    "recipes",
    "results/published",
];

fn main() {
    write_tuner_sources();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for source in SOURCES {
        println!("cargo:rerun-if-changed={}", root.join(source).display());
    }
    // An archive inside another repository is not that repository's commit.
    let is_own = git(&root, &["rev-parse", "--show-toplevel"])
        .is_some_and(|top| PathBuf::from(top).canonicalize().ok() == root.canonicalize().ok());
    let commit = if is_own { git(&root, &["rev-parse", "HEAD"]) } else { None };
    let changes = git(&root, &[&["status", "--porcelain", "--"][..], &SOURCES].concat());
    let is_dirty = commit.is_some() && changes.is_some_and(|changes| !changes.is_empty());
    if let Some(log) = git(&root, &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={}", root.join(log).display());
    }
    println!("cargo:rustc-env=RANKBENCH_COMMIT={}", commit.unwrap_or_else(|| "unknown".into()));
    println!("cargo:rustc-env=RANKBENCH_DIRTY={is_dirty}");
}

/// Writes a list of the methods' source texts, with the options that all low-rank methods have: the documentation of their options
/// is read out of them.
fn write_tuner_sources() {
    let methods = Path::new(env!("CARGO_MANIFEST_DIR")).join("../methods/src");
    let (mut open, mut files) = (vec![methods.join("tuners")], vec![methods.join("adapter/branch_options.rs")]);
    while let Some(dir) = open.pop() {
        for path in std::fs::read_dir(&dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let list: String = files.iter().map(|file| format!("include_str!({file:?}),\n")).collect();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("tuner_sources.rs");
    std::fs::write(&out, format!("&[\n{list}]")).unwrap_or_else(|e| panic!("{}: {e}", out.display()));
}

/// Output of git in a directory, whatever repository the environment names.
fn git(dir: &Path, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    command
        .arg("-C")
        .arg(dir)
        .args(arguments)
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE");
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
}
