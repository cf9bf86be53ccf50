//! Errors as a user sees them, and the documented exit codes.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use miette::Diagnostic;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything the binary ends on. [`Error::exit_code`] gives the documented code.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Error {
    /// A recipe, flag or name is wrong.
    #[error("{0}")]
    Usage(String),
    /// Data, backbone or a stored run cannot be read.
    #[error("{0}")]
    Input(String),
    /// Something cannot be written.
    #[error("cannot write {}: {reason}", path.display())]
    #[diagnostic(help(
        "finished runs are kept; free the disk or choose another --out and start the same command again"
    ))]
    Output { path: PathBuf, reason: String },
    /// A run whose loss left the finite numbers.
    #[error("{0}")]
    Diverged(String),
    /// The baseline check failed.
    #[error("{0}")]
    Regression(String),
    /// A stored run that does not come out again.
    #[error("{0}")]
    NotRepeated(String),
    /// Some runs of a sweep failed; the others are stored.
    #[error("{failed} of {total} runs failed; the report shows each with its reason")]
    RunsFailed { failed: usize, total: usize },
    /// Runs of the plan that are stored and not as they were written; all others are made.
    #[error(
        "{damaged} of {total} runs are stored and not as they were written, or cannot be read: they are in no number"
    )]
    #[diagnostic(help("`rankbench fsck --out OUT`, OUT being the directory of these runs, says what mends each"))]
    RunsDamaged { damaged: usize, total: usize },
    /// A stop signal: Ctrl-C, or one of a job system.
    #[error("interrupted; finished runs are kept, and the same command goes on with the rest")]
    Interrupted,
    /// A stop signal when all runs were made, before their report was whole.
    #[error(
        "interrupted before the report was whole: every run is stored, a report from before is as it was, and the same command writes the new one"
    )]
    ReportInterrupted,
    /// Another process took a run over while this one made it.
    #[error("run {run} was taken over by {holder}: this process was not heard of for too long")]
    LeaseLost { run: String, holder: String },
    /// Runs that other processes make were not waited for.
    #[error("{held} of {total} runs are made by other processes; start the same command again once they are done")]
    HeldElsewhere { held: usize, total: usize },
    /// All worker processes of a pool failed, the last with this code.
    #[error("{text}")]
    WorkersFailed { text: String, code: u8 },
    /// The machine lacks something: device, library, network.
    #[error("{0}")]
    Environment(String),
    /// A bug in this program.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// Exit code of the process (README, "Exit codes").
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Internal(_) => 1,
            Error::Usage(_) => 2,
            Error::Input(_) | Error::RunsDamaged { .. } => 3,
            Error::Regression(_) | Error::NotRepeated(_) => 4,
            Error::Diverged(_) | Error::RunsFailed { .. } => 5,
            Error::Output { .. } => 6,
            Error::Environment(_) | Error::LeaseLost { .. } => 7,
            Error::Interrupted | Error::ReportInterrupted | Error::HeldElsewhere { .. } => 75,
            Error::WorkersFailed { code, .. } => *code,
        }
    }

    /// Whether going on with other runs makes no sense: nothing could be stored, or the user said stop.
    pub fn ends_the_sweep(&self) -> bool {
        matches!(self, Error::Output { .. } | Error::Interrupted)
    }

    /// The error of a caught panic: libtorch's exceptions arrive as panics of tch.
    pub fn from_panic(panic: &(dyn std::any::Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("a panic without a message");
        // tch unwraps: `called Result::unwrap() on an Err value: Torch("message\nbacktrace")`.
        let message = text.split_once("Torch(\"").map_or(text, |(_, rest)| rest);
        tch::TchError::Torch(message.split("\\n").next().unwrap_or(message).to_string()).into()
    }

    /// Whether memory ran out, on the device or in the machine.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Error::Environment(text) if is_out_of_memory(text))
    }

    /// A file that could not be written.
    pub fn output(path: &Path, source: std::io::Error) -> Self {
        Error::Output { path: path.to_path_buf(), reason: source.to_string() }
    }

    /// A file that could not be opened.
    pub fn input(path: &Path, source: impl Display) -> Self {
        Error::Input(format!("cannot read {}: {source}", path.display()))
    }

    /// A stored file whose content is not what was written there.
    pub fn damaged(path: &Path, source: impl Display) -> Self {
        Error::Input(format!("{} is damaged: {source}. Delete its run directory and run again", path.display()))
    }
}

impl From<datasets::Error> for Error {
    fn from(error: datasets::Error) -> Self {
        match error {
            datasets::Error::Unknown { .. }
            | datasets::Error::NotSynthetic { .. }
            | datasets::Error::TaskFile { .. } => Error::Usage(error.to_string()),
            other => Error::Input(other.to_string()),
        }
    }
}

impl From<methods::Error> for Error {
    fn from(error: methods::Error) -> Self {
        use methods::Error as E;
        match error {
            E::UnknownMethod { .. } | E::Options { .. } | E::DoesNotFit { .. } => Error::Usage(error.to_string()),
            E::AdapterFile { .. } | E::Unmergeable(_) | E::OtherBackbone { .. } => Error::Input(error.to_string()),
            E::Torch(inner) => inner.into(),
            E::Device(inner) => inner.into(),
            E::NoGradient { .. } | E::PastTheEnd { .. } | E::State { .. } => Error::Internal(error.to_string()),
        }
    }
}

impl From<encoders::Error> for Error {
    fn from(error: encoders::Error) -> Self {
        match error {
            encoders::Error::Torch(inner) => inner.into(),
            other => Error::Input(other.to_string()),
        }
    }
}

impl From<torch_ext::Error> for Error {
    fn from(error: torch_ext::Error) -> Self {
        Error::Environment(with_advice(error.to_string()))
    }
}

/// Adds advice to a text that speaks of memory.
fn with_advice(text: String) -> String {
    let advice =
        "; --micro-batch auto takes the same steps in smaller parts, and a smaller --batch-size needs less, too";
    if is_out_of_memory(&text) { text + advice } else { text }
}

fn is_out_of_memory(text: &str) -> bool {
    text.contains("out of memory") || text.contains("not enough memory")
}

/// libtorch's message without the C++ backtrace. Running out of memory is the machine's matter, the rest is a bug.
impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default().to_string();
        if is_out_of_memory(&text) {
            return Error::Environment(with_advice(first));
        }
        Error::Internal(first)
    }
}
