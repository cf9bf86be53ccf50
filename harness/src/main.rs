//! The `rankbench` command.
// Both panic where they cannot write: everything is printed by env::output.
#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use harness::cli::Cli;
use harness::env::{output, panics};
use harness::error::Error;

fn main() -> ExitCode {
    torch_ext::device::keep_freed_memory();
    panics::install();
    output::shape_errors();
    let cli = Cli::from_process();
    let result = std::panic::catch_unwind(|| cli.run()).unwrap_or_else(|panic| Err(Error::from_panic(panic.as_ref())));
    match result.and_then(|()| output::check()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit_code();
            output::note(format!("{:?}", miette::Report::new(error)).trim_end());
            ExitCode::from(code)
        }
    }
}
