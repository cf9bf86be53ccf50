//! Errors of loading a backbone: each says what, where, what was expected, what was found and what to do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Faults between a backbone's directory and an encoder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that must be there is not, or cannot be read.
    #[error("cannot read {}: {reason}; {help}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Message of the system.
        reason: String,
        /// Advice.
        help: &'static str,
    },
    /// A configuration this encoder cannot honour exactly.
    #[error(
        "{}: {option} is {got}, expected {expected}; options are never ignored, use another backbone", path.display()
    )]
    Config {
        /// The configuration file.
        path: PathBuf,
        /// The option.
        option: String,
        /// Supported values.
        expected: String,
        /// Value in the configuration.
        got: String,
    },
    /// A size in the configuration that is not the checkpoint's.
    #[error(
        "{}: {option} is {value}, but {found}: config.json and weights are not of one model, or config.json is \
         damaged; download both again", path.display()
    )]
    Size {
        /// The configuration file.
        path: PathBuf,
        /// The option.
        option: &'static str,
        /// Value in the configuration.
        value: i64,
        /// Value in the checkpoint.
        found: String,
    },
    /// A checkpoint whose tensors are not the architecture's.
    #[error("{} does not hold this architecture:\n{}", path.display(), shown(problems))]
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

/// Lines of a list that are shown.
const SHOWN: usize = 24;

fn shown(problems: &[String]) -> String {
    let first = problems.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    match problems.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first}\nand {more} more"),
    }
}

/// Calls a library that reads a file: a panic in it becomes an error that names the file.
///
/// # Errors
/// Those of `read`, and its panic.
pub fn caught<T, E: From<Error>>(
    path: &Path,
    read: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        // tch unwraps: `called Result::unwrap() on an Err value: Torch("message\\nbacktrace")`.
        let text = text.unwrap_or("no message");
        let message = text.split_once("Torch(\"").map_or(text, |(_, rest)| rest);
        let first = message.split("\\n").flat_map(str::lines).next().unwrap_or_default();
        Err(E::from(Error::Unreadable {
            path: path.to_path_buf(),
            reason: format!("a library failed at its content: {first}"),
            help: "the file is damaged, or the error is in this program; download it again",
        }))
    })
}
