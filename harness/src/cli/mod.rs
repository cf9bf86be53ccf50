//! The command line: one struct a command, each a thin way into the library.

mod ablate;
mod adapters;
mod add;
mod attached_adapter;
mod audit;
mod compare;
mod completions;
mod damage;
mod doctor;
mod dry_run;
mod efficiency;
mod fetch;
mod fsck;
mod gpus;
mod help;
mod job;
mod list;
mod merge;
mod option_docs;
mod plan;
mod plan_line;
mod pool;
mod power;
mod regression;
mod report;
mod run;
mod show;
mod split;
mod stack;
mod status;
mod stored;
mod submit;
mod task_files;
mod tensorboard;
mod tokenize;
mod tune;
mod values;
mod verify;
mod watch;
mod watch_terminal;
mod watch_view;

use clap::error::{ContextKind, ContextValue};
use clap::{Parser, Subcommand};

use crate::env::output;
use crate::error::Result;

/// Compares LoRA, AdaLoRA and SoRA on GLUE under one protocol and writes the paper's tables and figures.
#[derive(Debug, Parser)]
#[command(name = "rankbench", version, after_help = help::EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The main job on the embedded synthetic data: Table 1 over eight tasks, the efficiency table, the report.
    #[command(after_help = help::QUICKSTART)]
    Quickstart(run::Quickstart),
    /// Make the runs of a recipe and their report; what is finished already is not made again.
    #[command(after_help = help::RUN)]
    Run(run::Run),
    /// Print the runs of a recipe, their steps and evaluations, and the time and memory measured on this device.
    #[command(after_help = help::PLAN)]
    Plan(plan::Plan),
    /// Flip switches of docs/divergences.md, each alone against a base, and test what each changes.
    #[command(after_help = help::ABLATE)]
    Ablate(ablate::Ablate),
    /// Try the same number of settings for every method, choose on validation alone, and make the chosen ones on every seed.
    #[command(after_help = help::TUNE)]
    Tune(tune::Tune),
    /// List methods with their options, tasks, recipes, encoders, and every key of a recipe.
    #[command(after_help = help::LIST)]
    List(list::List),
    /// Print an embedded recipe.
    #[command(after_help = help::RECIPE)]
    Recipe(list::PrintRecipe),
    /// Fetch the backbone and data of a recipe, for a machine without a network.
    #[command(after_help = help::FETCH)]
    Fetch(fetch::Fetch),
    /// Watch how the runs of a store stand: losses, validation, time left.
    #[command(after_help = help::WATCH)]
    Watch(watch::Watch),
    /// Write the tables and figures of stored runs.
    #[command(after_help = help::REPORT)]
    Report(report::Report),
    /// Show everything about one run: setting, scores, checkpoint, counts, ranks, times, origin, files.
    #[command(after_help = help::SHOW)]
    Show(show::Show),
    /// Compare the runs of two stores or reports: what moved, by how much, and whether it matters.
    #[command(after_help = help::COMPARE)]
    Compare(compare::Compare),
    /// Say which differences the seeds of stored runs can show, and how many seeds a margin takes.
    #[command(after_help = help::POWER)]
    Power(power::Power),
    /// Audit a published table: values that no mean can print, averages that do not follow, repeated digits.
    #[command(after_help = help::AUDIT)]
    Audit(audit::Audit),
    /// Write the steps and scores of stored runs as event files for TensorBoard.
    #[command(name = "tensorboard", after_help = help::TENSORBOARD)]
    TensorBoard(tensorboard::TensorBoard),
    /// Check that stored runs are as they were written: names, files' sums, metrics computed again from predictions; mend what can be.
    #[command(after_help = help::FSCK)]
    Fsck(fsck::Fsck),
    /// Write the row numbers of every split of a task, so that other programs train and predict on the same.
    #[command(after_help = help::SPLIT)]
    Split(split::Split),
    /// Add a run that another program made, from its predictions or adapter: its metrics are computed here.
    #[command(after_help = help::ADD)]
    Add(add::Add),
    /// Make the beginning of a stored run again, and say whether its losses repeat.
    #[command(after_help = help::VERIFY)]
    Verify(verify::Verify),
    /// Say how the runs of a directory stand: done, running and where, left to do.
    #[command(after_help = help::STATUS)]
    Status(status::Status),
    /// Submit a plan to a cluster's scheduler.
    #[command(after_help = help::SUBMIT)]
    Submit(submit::Submit),
    /// Time the methods against each other, interleaved.
    #[command(after_help = help::EFFICIENCY)]
    Efficiency(efficiency::Efficiency),
    /// Run a small fixed recipe and compare it with the stored baseline.
    #[command(after_help = help::REGRESSION)]
    Regression(regression::Regression),
    /// Write the adapter of a finished run for PEFT to load.
    #[command(after_help = help::EXPORT)]
    Export(adapters::Export),
    /// Evaluate an adapter that PEFT or this program saved.
    #[command(after_help = help::IMPORT)]
    Import(adapters::Import),
    /// Fold an adapter into its backbone: a plain checkpoint that transformers loads.
    #[command(after_help = help::MERGE)]
    Merge(adapters::Merge),
    /// Write the token ids of every row of some tasks.
    #[command(after_help = help::TOKENIZE)]
    Tokenize(tokenize::Tokenize),
    /// Say what this build and machine have, where each thing was found and what is missing.
    #[command(after_help = help::DOCTOR)]
    Doctor(doctor::Doctor),
    /// Print completions for a shell.
    #[command(after_help = help::COMPLETIONS)]
    Completions(completions::Completions),
    /// Write a man page of every command.
    #[command(after_help = help::MAN)]
    Man(completions::Man),
}

impl Cli {
    /// The command line of this process; a wrong one ends it with a message, and with the flag that was probably meant.
    pub fn from_process() -> Self {
        Self::try_parse().unwrap_or_else(|error| {
            let _ = error.print();
            if let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg)
                && let Some(tip) = values::tip(given)
            {
                output::note(format_args!("\n  tip: {tip}"));
            }
            std::process::exit(error.exit_code())
        })
    }

    /// Does what the command says.
    ///
    /// # Errors
    /// The error that ends the process; [`crate::error::Error::exit_code`] gives the code.
    pub fn run(&self) -> Result<()> {
        match &self.command {
            Command::Quickstart(command) => command.run(),
            Command::Run(command) => run(command),
            Command::Plan(command) => command.run(),
            Command::Ablate(command) => command.run(),
            Command::Tune(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Recipe(command) => command.run(),
            Command::Fetch(command) => command.run(),
            Command::Watch(command) => command.run(),
            Command::Report(command) => command.run(),
            Command::Show(command) => command.run(),
            Command::Compare(command) => command.run(),
            Command::Power(command) => command.run(),
            Command::Audit(command) => command.run(),
            Command::TensorBoard(command) => command.run(),
            Command::Fsck(command) => command.run(),
            Command::Split(command) => command.run(),
            Command::Add(command) => command.run(),
            Command::Verify(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Submit(command) => command.run(),
            Command::Efficiency(command) => command.run(),
            Command::Regression(command) => command.run(),
            Command::Export(command) => command.run(),
            Command::Import(command) => command.run(),
            Command::Merge(command) => command.run(),
            Command::Tokenize(command) => command.run(),
            Command::Doctor(command) => command.run(),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
        }
    }
}

/// Does what `rankbench run` was asked for: a plan, one line of it, or all runs, here or by workers.
fn run(command: &run::Run) -> Result<()> {
    match command {
        run::Run { plan: Some(plan), index, .. } => plan_line::make(plan, *index),
        run::Run { write_plan: Some(path), .. } => plan_line::write(path, command),
        run::Run { dry_run: Some(form), .. } => dry_run::dry_run(command, *form),
        run::Run { worker: false, .. } if command.gpus.is_some() || command.jobs.get() > 1 => pool::run(command),
        _ => command.run(),
    }
}
