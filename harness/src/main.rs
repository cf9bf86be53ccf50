//! The `rankbench` command.

use std::process::ExitCode;

use harness::cli::Cli;
use harness::env::panics;
use harness::error::Error;

fn main() -> ExitCode {
    panics::install();
    let cli = Cli::from_process();
    let result = std::panic::catch_unwind(|| cli.run()).unwrap_or_else(|panic| Err(Error::from_panic(panic.as_ref())));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error.exit_code();
            eprintln!("{:?}", miette::Report::new(error));
            ExitCode::from(code)
        }
    }
}
