//! `rankbench watch`: how the runs of a store stand, again and again.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::stored::sweep_dir;
use crate::cli::watch_terminal;
use crate::cli::watch_view::{is_open, line, summary};
use crate::env::output;
use crate::error::Result;
use crate::launch::watched::{WatchedRun, WatchedStore};

/// `rankbench watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// The directory of a sweep.
    #[arg(value_name = "OUT", default_value = "results")]
    out: PathBuf,
    /// Seconds between two looks.
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Look once, and print a line a run. Where standard output is no terminal, a run gets a line whenever it changes.
    #[arg(long)]
    once: bool,
    /// As JSON.
    #[arg(long, requires = "once")]
    json: bool,
}

impl Watch {
    pub(super) fn run(&self) -> Result<()> {
        let out = sweep_dir(&self.out)?;
        let mut store = WatchedStore::new(&out.join("runs"));
        let every = Duration::from_secs(self.every);
        let is_screen = std::io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        if self.json {
            output::print(format_args!("{:#}", json(&out, &store.look()?)));
            return Ok(());
        }
        let last = match is_screen && !self.once {
            true => watch_terminal::show(&out.display().to_string(), &mut store, every)?,
            false => self.lines(&mut store, every)?,
        };
        output::print(summary(&last));
        Ok(())
    }

    /// Prints a line for each run that changed, until nothing is open.
    fn lines(&self, store: &mut WatchedStore, every: Duration) -> Result<Vec<WatchedRun>> {
        let mut known: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let runs = store.look()?;
            for run in &runs {
                let line = line(run);
                if known.insert(run.run.id.clone(), line.clone()).as_ref() != Some(&line) {
                    output::print(line);
                }
            }
            if self.once || !is_open(&runs) {
                return Ok(runs);
            }
            std::thread::sleep(every);
        }
    }
}

fn json(out: &Path, runs: &[WatchedRun]) -> Value {
    let run = |run: &WatchedRun| {
        let (metric, points) = run.validation.clone().unzip();
        json!({
            "run": run.run.id,
            "state": run.run.state.word(),
            "epochs": run.epochs.0,
            "epochs_planned": run.epochs.1,
            "task_losses": run.losses,
            "validation_metric": metric,
            "validation": points,
            "seconds_left": run.left.map(|left| left.as_secs_f64()),
            "device": run.device,
            "failure": run.failure,
        })
    };
    json!({ "out": out.display().to_string(), "runs": runs.iter().map(run).collect::<Vec<_>>() })
}
