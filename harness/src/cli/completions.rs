//! `rankbench completions` and `rankbench man`.

use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::env::output;
use crate::error::{Error, Result};

/// `rankbench completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

/// `rankbench man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Where the pages go.
    #[arg(value_name = "DIR")]
    out: PathBuf,
}

impl Completions {
    pub(super) fn run(&self) -> Result<()> {
        clap_complete::generate(self.shell, &mut Cli::command(), "rankbench", &mut std::io::stdout());
        Ok(())
    }
}

impl Man {
    pub(super) fn run(&self) -> Result<()> {
        std::fs::create_dir_all(&self.out).map_err(|e| Error::output(&self.out, e))?;
        clap_mangen::generate_to(Cli::command(), &self.out).map_err(|e| Error::output(&self.out, e))?;
        output::print(format_args!(
            "{}: read one with `man {}/rankbench-run.1`",
            self.out.display(),
            self.out.display()
        ));
        Ok(())
    }
}
