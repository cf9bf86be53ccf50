//! Everything the program prints, and the shape of its errors. A terminal that closed, a reader that left or a full disk ends no work: `println!` and `eprintln!` would.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;

use miette::MietteHandlerOpts;

use crate::error::{Error, Result};

/// The first error of standard output.
static LOST: OnceLock<ErrorKind> = OnceLock::new();

/// Sets the shape of errors: wrapped at the width of a terminal; elsewhere, in a log or a pipe, a message and its advice are a line each.
pub fn shape_errors() {
    let is_wrapped = io::stderr().is_terminal();
    // Fails where a shape was set before, which is this one.
    let _ = miette::set_hook(Box::new(move |_| Box::new(MietteHandlerOpts::new().wrap_lines(is_wrapped).build())));
}

/// Prints a line to standard output, which holds results. Nothing more is printed once it failed; [`check`] says so at the end.
pub fn print(text: impl Display) {
    if LOST.get().is_none()
        && let Err(error) = write_line(io::stdout().lock(), &text)
    {
        let _ = LOST.set(error.kind());
    }
}

/// Prints a line to standard error, which holds messages. One that cannot be written is dropped.
pub fn note(text: impl Display) {
    let _ = write_line(io::stderr().lock(), &text);
}

/// The line is made before it is written: a line of several processes' messages is one write.
fn write_line(mut to: impl Write, text: &dyn Display) -> io::Result<()> {
    to.write_all(format!("{text}\n").as_bytes())?;
    to.flush()
}

/// Whether results reached standard output. A reader that left, such as `head`, had what it wanted.
///
/// # Errors
/// Standard output failed otherwise, e.g. on a full disk.
pub fn check() -> Result<()> {
    match LOST.get() {
        None | Some(ErrorKind::BrokenPipe) => Ok(()),
        Some(kind) => Err(Error::output(Path::new("standard output"), io::Error::from(*kind))),
    }
}
