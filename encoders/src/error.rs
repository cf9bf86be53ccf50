//! Errors of loading a backbone: each says what, where, what was expected, what was found and what to do.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong between a backbone's directory and an encoder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that must be there is not, or cannot be read.
    #[error("cannot read {}: {reason}; {help}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
        /// What to do.
        help: &'static str,
    },
    /// A configuration this encoder cannot honour exactly.
    #[error("{}: {option} is {got}, expected {expected}; options are never ignored, use another backbone", path.display())]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// The option.
        option: String,
        /// What is supported.
        expected: String,
        /// What it says.
        got: String,
    },
    /// A checkpoint whose tensors are not the architecture's.
    #[error("{} does not hold this architecture:\n{}", path.display(), problems.join("\n"))]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// Every missing, surplus and wrong-shaped tensor, one line each.
        problems: Vec<String>,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}
