//! Errors of building and running a method.

use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The known name that is at most two edits away.
pub(crate) fn nearest<'a>(known: impl IntoIterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    let near = known.into_iter().map(|known| (strsim::damerau_levenshtein(known, name), known));
    near.filter(|(distance, _)| *distance <= 2).min().map(|(_, known)| known)
}

/// Failures of a method, its options or its step.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No method of that name.
    #[error("unknown method '{name}'{}; known: {known}", nearest.as_ref().map(|n| format!(" (did you mean '{n}'?)")).unwrap_or_default())]
    UnknownMethod { name: String, nearest: Option<String>, known: String },
    /// The options do not parse: unknown key, wrong type.
    #[error("options of method '{method}': {detail}")]
    Options { method: &'static str, detail: String },
    /// The options parse but do not fit the run.
    #[error("method '{method}': {what}: expected {expected}, got {got}. {help}")]
    DoesNotFit { method: &'static str, what: &'static str, expected: String, got: String, help: String },
    /// A declared parameter never received a gradient.
    #[error("parameter '{name}' received no gradient at step {step}: nothing in the loss depends on it")]
    NoGradient { name: String, step: usize },
    /// More steps than the schedule was built for.
    #[error("step {step} is past the {planned} steps this run was planned for")]
    PastTheEnd { step: usize, planned: usize },
    /// A saved state does not belong to this step.
    #[error("saved state: tensor '{name}': expected {expected}, got {got}")]
    State { name: String, expected: String, got: String },
    /// An adapter file cannot be read or written.
    #[error("adapter file {}: {detail}", path.display())]
    AdapterFile { path: PathBuf, detail: String },
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// A failure on the device.
    #[error(transparent)]
    Device(#[from] torch_ext::Error),
    /// An adapter that cannot be folded into the backbone.
    #[error("cannot merge: {0}; keep the adapter apart")]
    Unmergeable(String),
    /// An adapter for another backbone.
    #[error(
        "the adapter is for another backbone: this one has no {name}, or of another shape; give the backbone it was trained on"
    )]
    OtherBackbone {
        /// The module or tensor that is not there.
        name: String,
    },
}

/// A file of an adapter that cannot be used.
pub(crate) fn damaged(path: &Path, detail: impl ToString) -> Error {
    Error::AdapterFile { path: path.to_path_buf(), detail: detail.to_string() }
}
