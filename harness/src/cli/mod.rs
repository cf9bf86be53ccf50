//! The command line: one struct a command, each a thin way into the library.

mod ablate;
mod adapters;
mod doctor;
mod efficiency;
mod fsck;
mod gpus;
mod job;
mod merge;
mod plan;
mod plan_line;
mod pool;
mod regression;
mod report;
mod run;
mod status;
mod submit;
mod task_files;
mod tokenize;
mod tune;

use clap::{Args, Parser, Subcommand};

use crate::error::Result;

/// Compares LoRA, AdaLoRA and SoRA on GLUE under one protocol and writes the paper's tables and figures.
#[derive(Debug, Parser)]
#[command(name = "rankbench", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done · 1 a bug · 2 wrong recipe, flag or name · 3 unreadable data, backbone or run · \
    4 the baseline check failed · 5 a run failed · 6 something cannot be written · 7 the machine lacks something · \
    75 stopped by a signal and saved: start the same command again · 130 a second Ctrl-C";

#[derive(Debug, Subcommand)]
enum Command {
    /// The main job on the embedded synthetic data: Table 1 over eight tasks, the efficiency table, the report.
    Quickstart(run::Quickstart),
    /// Make the runs of a recipe and their report; what is finished already is not made again.
    Run(run::Run),
    /// Print the runs of a recipe, their steps and evaluations, and the time and memory measured on this device.
    Plan(plan::Plan),
    /// Flip switches of docs/divergences.md, each alone against a base, and test what each changes.
    Ablate(ablate::Ablate),
    /// Try the same number of settings for every method, choose on validation alone, and make the chosen ones on every seed.
    Tune(tune::Tune),
    /// Write the tables and figures of stored runs.
    Report(report::Report),
    /// Check that stored runs are as they were written: names, files' sums, metrics computed again from predictions; mend what can be.
    Fsck(fsck::Fsck),
    /// Say how the runs of a directory stand: done, running and where, left to do.
    Status(status::Status),
    /// Submit a plan to a cluster's scheduler.
    Submit(submit::Submit),
    /// Time the methods against each other, interleaved.
    Efficiency(efficiency::Efficiency),
    /// Run a small fixed recipe and compare it with the stored baseline.
    Regression(regression::Regression),
    /// Write the adapter of a finished run for PEFT to load.
    Export(adapters::Export),
    /// Evaluate an adapter that PEFT or this program saved.
    Import(adapters::Import),
    /// Fold an adapter into its backbone: a plain checkpoint that transformers loads.
    Merge(adapters::Merge),
    /// Write the token ids of every row of some tasks.
    Tokenize(tokenize::Tokenize),
    /// Say what this build and machine have, where each thing was found and what is missing.
    Doctor(Doctor),
}

/// `rankbench doctor`.
#[derive(Debug, Args)]
struct Doctor {
    /// Also read this backbone, and say how long that takes and how much memory.
    #[arg(long)]
    backbone: Option<String>,
}

impl Cli {
    /// Does what the command says.
    ///
    /// # Errors
    /// Whatever ends the process; [`crate::error::Error::exit_code`] gives the code.
    pub fn run(&self) -> Result<()> {
        match &self.command {
            Command::Quickstart(command) => command.run(),
            Command::Run(command) => run(command),
            Command::Plan(command) => command.run(),
            Command::Ablate(command) => command.run(),
            Command::Tune(command) => command.run(),
            Command::Report(command) => command.run(),
            Command::Fsck(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Submit(command) => command.run(),
            Command::Efficiency(command) => command.run(),
            Command::Regression(command) => command.run(),
            Command::Export(command) => command.run(),
            Command::Import(command) => command.run(),
            Command::Merge(command) => command.run(),
            Command::Tokenize(command) => command.run(),
            Command::Doctor(command) => doctor::doctor(command.backbone.as_deref()),
        }
    }
}

/// Does what `rankbench run` was asked for: a plan, one line of it, or all runs, here or by workers.
fn run(command: &run::Run) -> Result<()> {
    match command {
        run::Run { plan: Some(plan), index, .. } => plan_line::make(plan, *index),
        run::Run { write_plan: Some(path), .. } => plan_line::write(path, command),
        run::Run { worker: false, dry_run: false, .. } if command.gpus.is_some() || command.jobs.get() > 1 => {
            pool::run(command)
        }
        _ => command.run(),
    }
}
