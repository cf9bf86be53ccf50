//! `rankbench watch`: how the runs of a store stand, again and again.

use std::collections::BTreeMap;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::cli::job::width;
use crate::cli::stored::sweep_dir;
use crate::env::console::spoken;
use crate::env::output;
use crate::error::Result;
use crate::store::files::read_rows;
use crate::store::read::run_dirs;
use crate::store::rows::{EpochRow, EvalRow};
use crate::store::stored_spec::StoredSpec;
use crate::train::schedule::all_epochs;

/// Finished runs that a screen still shows.
const DONE_SHOWN: usize = 5;

/// `rankbench watch`.
#[derive(Debug, Args)]
pub struct Watch {
    /// The directory of a sweep.
    #[arg(value_name = "OUT", default_value = "results")]
    out: PathBuf,
    /// Seconds between two looks.
    #[arg(long, default_value = "2", value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Look once.
    #[arg(long)]
    once: bool,
}

/// A run as its files show it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    /// Title of its method, of a run that was made elsewhere.
    elsewhere: Option<String>,
    state: &'static str,
    /// Epochs done and planned; not known of a run that was made elsewhere.
    epochs: Option<(usize, usize)>,
    loss: Option<f64>,
    /// Last value of the validation split: metric and points.
    validation: Option<(String, f64)>,
    left: Option<Duration>,
}

impl Watch {
    pub(super) fn run(&self) -> Result<()> {
        let runs = sweep_dir(&self.out)?.join("runs");
        let is_screen = std::io::stdout().is_terminal() && !self.once;
        let mut known: BTreeMap<String, Seen> = BTreeMap::new();
        loop {
            let seen = look(&runs)?;
            if is_screen {
                // Cursor home, and everything below it cleared.
                output::print(format_args!("\x1b[H\x1b[J{}", screen(&seen, width()).trim_end()));
            } else {
                let changed = seen.iter().filter(|(run, now)| known.get(*run) != Some(now));
                changed.for_each(|(run, now)| output::print(format_args!("{}", line(run, now))));
            }
            let open = seen.values().filter(|run| !["done", "failed"].contains(&run.state)).count();
            if self.once || open == 0 {
                output::print(format_args!("{}", summary(&seen)));
                return Ok(());
            }
            known = seen;
            std::thread::sleep(Duration::from_secs(self.every));
        }
    }
}

fn look(runs: &Path) -> Result<BTreeMap<String, Seen>> {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(run_dirs(runs)?.iter().filter_map(|path| Some((name(path), read(path)?))).collect())
}

/// Reads a run that may be written meanwhile: what cannot be read yet is not there yet.
fn read(path: &Path) -> Option<Seen> {
    let spec = StoredSpec::parse(&fs::read_to_string(path.join("run.toml")).ok()?).ok()?;
    let epochs: Vec<EpochRow> = read_rows(&path.join("epochs.csv")).unwrap_or_default();
    let evals: Vec<EvalRow> = read_rows(&path.join("evals.csv")).unwrap_or_default();
    let selects = datasets::tasks::find(spec.task()).map(|task| task.selection.name()).ok();
    let validation = evals.iter().rev().find(|row| row.split == "validation" && Some(row.metric.as_str()) == selects);
    let planned = spec.made().map(|spec| all_epochs(&spec.train));
    let state = match (path.join("DONE").exists(), path.join("FAILED").exists()) {
        (true, _) => "done",
        (_, true) => "failed",
        _ if epochs.is_empty() && evals.is_empty() => "open",
        _ => "begun",
    };
    let seconds: f64 = epochs.iter().map(|epoch| epoch.seconds).sum();
    let rest = planned.unwrap_or_default().saturating_sub(epochs.len()) as f64;
    let left = (state == "begun" && !epochs.is_empty()).then(|| seconds / epochs.len() as f64 * rest);
    Some(Seen {
        elsewhere: spec.external().map(|spec| spec.title.clone()),
        state,
        epochs: planned.map(|planned| (epochs.len(), planned)),
        loss: epochs.last().map(|epoch| epoch.task_loss),
        validation: validation.map(|row| (row.metric.clone(), 100.0 * row.value)),
        left: left.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()),
    })
}

fn line(run: &str, seen: &Seen) -> String {
    let loss = seen.loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"));
    let validation =
        seen.validation.as_ref().map_or(String::new(), |(metric, points)| format!(", validation {metric} {points:.2}"));
    let left = seen.left.map_or(String::new(), |left| format!(", about {} of training left", spoken(left)));
    let elsewhere = seen.elsewhere.as_ref().map_or(String::new(), |title| format!("{title}, made elsewhere: "));
    let epochs = seen.epochs.map_or(String::new(), |(done, planned)| format!(", epoch {done} of {planned}"));
    format!("{run}: {elsewhere}{}{epochs}{loss}{validation}{left}", seen.state)
}

/// Begun runs first, then failed ones, the last of the finished ones, and how many are open.
fn screen(seen: &BTreeMap<String, Seen>, width: usize) -> String {
    let of = |state: &str| seen.iter().filter(|(_, run)| run.state == state).collect::<Vec<_>>();
    let done = of("done");
    let shown = of("begun").into_iter().chain(of("failed")).chain(done.into_iter().rev().take(DONE_SHOWN));
    let cut = |text: String| text.chars().take(width).collect::<String>();
    let lines: Vec<String> = shown.map(|(run, seen)| cut(line(run, seen))).collect();
    format!("{}\n\n{}\n", summary(seen), lines.join("\n"))
}

fn summary(seen: &BTreeMap<String, Seen>) -> String {
    let count = |state: &str| seen.values().filter(|run| run.state == state).count();
    let [done, begun, failed, open] = ["done", "begun", "failed", "open"].map(count);
    format!("{} runs: {done} done, {begun} begun, {failed} failed, {open} not begun", seen.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_one_line() {
        let seen = Seen {
            elsewhere: None,
            state: "begun",
            epochs: Some((2, 5)),
            loss: Some(0.5),
            validation: Some(("accuracy".into(), 61.25)),
            left: Some(Duration::from_secs(90)),
        };
        assert_eq!(
            line("rte-lora-s0", &seen),
            "rte-lora-s0: begun, epoch 2 of 5, loss 0.5000, validation accuracy 61.25, about 1 min 30 s of training left"
        );
        let all = BTreeMap::from([("rte-lora-s0".to_string(), seen)]);
        assert!(screen(&all, 40).contains("1 runs: 0 done, 1 begun, 0 failed, 0 not begun"));
        assert!(screen(&all, 60).lines().all(|line| line.chars().count() <= 60));
    }
}
