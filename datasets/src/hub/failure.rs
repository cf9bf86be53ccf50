//! Why an attempt at a download failed, and whether another one may help.

use hf_hub::api::sync::ApiError;

/// Why an attempt failed.
pub(crate) enum Failure {
    /// Another attempt may help.
    Passing(String),
    /// The server's name leads nowhere; another attempt may help.
    Unreachable(String),
    /// Another process is at the file.
    Locked,
    /// Partial files are of no use; another attempt may help once they are gone.
    Parts(String),
    /// It will not.
    Final(String, &'static str),
}

/// The failure behind an error of the library.
pub(crate) fn failure(error: ApiError) -> Failure {
    match error {
        ApiError::LockAcquisition(_) => Failure::Locked,
        ApiError::InvalidResume => Failure::Parts("a partial file is longer than the file".into()),
        ApiError::RequestError(request) => match *request {
            ureq::Error::StatusCode(416) => Failure::Parts("a partial file could not be resumed".into()),
            ureq::Error::StatusCode(401 | 403) => Failure::Final(
                "the server refuses access (401 or 403)".into(),
                "Set HF_TOKEN to a token that may read it; a name that does not exist is refused, too",
            ),
            ureq::Error::StatusCode(404) => Failure::Final(
                "the server has no such file, revision or repository (404)".into(),
                "Check the name; NAME@REVISION takes another revision",
            ),
            ureq::Error::StatusCode(code) if code == 429 || code >= 500 => {
                Failure::Passing(format!("the server answers {code}"))
            }
            ureq::Error::StatusCode(code) => Failure::Final(format!("the server answers {code}"), "Check HF_ENDPOINT"),
            ureq::Error::HostNotFound => Failure::Unreachable("the server's name is not known (DNS)".into()),
            // The standard library gives a failed look-up no kind of its own.
            ureq::Error::Io(error) if error.to_string().contains("lookup address") => {
                Failure::Unreachable(format!("the server's name is not known (DNS): {error}"))
            }
            ureq::Error::Io(error) if is_read_only(&error) => read_only(&error),
            other => Failure::Passing(other.to_string()),
        },
        ApiError::IoError(error) if error.kind() == std::io::ErrorKind::StorageFull => {
            Failure::Final(error.to_string(), "Make room, or set HF_HUB_CACHE to another disk")
        }
        ApiError::IoError(error) if is_read_only(&error) => read_only(&error),
        ApiError::IoError(error) => Failure::Passing(error.to_string()),
        ApiError::TooManyRetries(error) => failure(*error),
        other => Failure::Final(format!("the server's answer is not the Hub's: {other}"), "Check HF_ENDPOINT"),
    }
}

fn is_read_only(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | NotADirectory)
}

fn read_only(error: &std::io::Error) -> Failure {
    let reason = format!("the cache cannot be written: {error}");
    Failure::Final(reason, "Make it writable, or set HF_HUB_CACHE to a directory that is")
}
