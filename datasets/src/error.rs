//! Errors of reading data: each says what, where, what was expected, what was found and what to do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Faults on the way from a data directory to a batch.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory or file that must be there is not.
    #[error("{what} not found: {}{}", path.display(), help_suffix(help))]
    Missing { what: String, path: PathBuf, help: String },
    /// Reading failed at the operating system.
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The file is damaged or not in the expected form.
    #[error("{} is not readable as {format}: {detail}{}", path.display(), help_suffix(help))]
    Corrupt { path: PathBuf, format: &'static str, detail: String, help: String },
    /// A row does not fit the task's schema.
    #[error("{}, line {line}: expected {expected}, got {got}{}", path.display(), help_suffix(help))]
    Row { path: PathBuf, line: usize, expected: String, got: String, help: String },
    /// A file differs from the lock.
    #[error("{}: {field} expected {expected}, got {got}{}", path.display(), help_suffix(help))]
    Lock { path: PathBuf, field: &'static str, expected: String, got: String, help: String },
    /// A row cannot be turned into tokens.
    #[error("cannot tokenise: {detail}{}", help_suffix(help))]
    Encode { detail: String, help: String },
    /// A metric has no value for what it was given.
    #[error("cannot compute {metric}: {detail}{}", help_suffix(help))]
    Metric { metric: &'static str, detail: String, help: String },
    /// A file of the Hub cannot be had.
    #[error("cannot get {wanted} of {repository} at revision {revision} from the Hub: {reason}{}", help_suffix(help))]
    Hub { wanted: String, repository: String, revision: String, reason: String, help: String },
    /// A user's own task cannot be taken from its file.
    #[error("task file {}: {detail}{}", path.display(), help_suffix(help))]
    TaskFile { path: PathBuf, detail: String, help: String },
    /// Synthetic rows are asked for of a task that has none.
    #[error("task {task} has no synthetic rows: take real ones, or one of {}", known.join(", "))]
    NotSynthetic { task: String, known: Vec<String> },
    /// A name that no registry holds.
    #[error("unknown {kind} '{name}'{}; known: {}", nearest_suffix(nearest.as_deref()), known.join(", "))]
    Unknown { kind: &'static str, name: String, nearest: Option<String>, known: Vec<String> },
}

/// Reads a file with a library that may panic at what stands in it: that is an error which names the file.
pub(crate) fn guarded<T>(path: &Path, format: &'static str, read: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let detail = format!("its reader gave up: {}", text.unwrap_or("no reason was given"));
        let help = "The file is damaged: get it again".into();
        Err(Error::Corrupt { path: path.to_path_buf(), format, detail, help })
    })
}

/// The known name that `name` may be a slip of.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.into_iter().map(|known| (strsim::damerau_levenshtein(known, name), known));
    distances.filter(|(distance, known)| *distance <= 1 + known.len() / 3).min().map(|(_, known)| known)
}

fn help_suffix(help: &str) -> String {
    if help.is_empty() { String::new() } else { format!(". {help}") }
}

pub(crate) fn nearest_suffix(nearest: Option<&str>) -> String {
    nearest.map(|n| format!(" (did you mean '{n}'?)")).unwrap_or_default()
}

impl Error {
    /// Names an unknown `name` of a `kind` (task, metric, ...) with the nearest known one.
    pub fn unknown(kind: &'static str, name: &str, known: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let known: Vec<String> = known.into_iter().map(Into::into).collect();
        let nearest = nearest(name, known.iter().map(String::as_str)).map(str::to_string);
        Error::Unknown { kind, name: name.to_string(), nearest, known }
    }
}
