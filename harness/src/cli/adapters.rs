//! `rankbench export`, `import` and `merge`: adapters that other programs load, and those they saved.

use std::path::{Path, PathBuf};

use clap::Args;
use methods::registry::read_adapter;
use serde::Serialize;
use tch::{Device, Kind};

use crate::cli::attached_adapter::{AttachedAdapter, CONFIG, EvaluationFlags, WEIGHTS, tell};
use crate::cli::job::DataFlags;
use crate::cli::merge;
use crate::env::output;
use crate::error::{Error, Result};
use crate::load::download;
use crate::load::paths;
use crate::store::files::{write_atomically, write_csv};
use crate::train::evaluate::scores;

/// `rankbench export`.
#[derive(Debug, Args)]
pub struct Export {
    /// Directory of a finished run, e.g. results/runs/rte-sora-s0-0123456789.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Where the adapter goes, in PEFT's layout.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name or path of the backbone that the configuration is to point to; the run's where it is left out.
    #[arg(long)]
    base_model: Option<String>,
}

/// `rankbench import`.
#[derive(Debug, Args)]
pub struct Import {
    /// Directory of an adapter in PEFT's layout.
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The backbone it was trained on: a directory, the name of one below .cache/backbones, or a repository on the Hub.
    #[arg(long)]
    backbone: String,
    /// Task whose development sets it is evaluated on.
    #[arg(long)]
    task: String,
    #[command(flatten)]
    evaluation: EvaluationFlags,
    /// A CSV file for the predictions and logits of every row.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the metrics as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataFlags,
}

/// `rankbench merge`.
#[derive(Debug, Args)]
pub struct Merge {
    /// Directory of an adapter in PEFT's layout, e.g. the `adapter` of a run.
    #[arg(long, value_name = "DIR")]
    adapter: PathBuf,
    /// The backbone it was trained on: a directory, the name of one below .cache/backbones, or a repository on the Hub.
    #[arg(long)]
    backbone: String,
    /// Where the checkpoint goes.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// A row of [`Import`]'s file.
#[derive(Serialize)]
struct Row {
    dev_set: &'static str,
    row: usize,
    label: f64,
    prediction: f64,
    /// Separated by spaces.
    logits: String,
}

/// A metric on one development set.
#[derive(Serialize)]
struct Score {
    task: &'static str,
    dev_set: &'static str,
    metric: String,
    /// In points of 100.
    value: f64,
    rows: usize,
}

/// Refuses what is no finished run, with what it is instead.
fn check_run(run: &Path) -> Result<()> {
    if run.join("DONE").exists() {
        return Ok(());
    }
    let shown = run.display();
    Err(Error::Input(
        match (run.is_dir(), run.join("runs").is_dir() || run.ends_with("runs"), run.join("run.toml").exists()) {
            (false, ..) => format!("{shown} is not there; give the directory of a finished run, OUT/runs/<run id>"),
            (_, true, _) => {
                format!("{shown} is a folder of runs, not a run; give one of the directories in it that have a DONE")
            }
            (_, _, true) => format!("{shown} is no finished run: it has no DONE; `rankbench run` finishes it"),
            _ => format!("{shown} is no run: it has neither run.toml nor DONE; give OUT/runs/<run id>"),
        },
    ))
}

impl Export {
    pub(super) fn run(&self) -> Result<()> {
        check_run(&self.run)?;
        let adapter = self.run.join("adapter");
        let read = |name: &str| std::fs::read(adapter.join(name)).map_err(|e| Error::input(&adapter.join(name), e));
        let mut config: serde_json::Value =
            serde_json::from_slice(&read(CONFIG)?).map_err(|e| Error::damaged(&adapter.join(CONFIG), e))?;
        if let (Some(base_model), Some(config)) = (&self.base_model, config.as_object_mut()) {
            config.insert("base_model_name_or_path".into(), base_model.as_str().into());
        }
        write_atomically(&self.out.join(CONFIG), format!("{config:#}\n").as_bytes())?;
        write_atomically(&self.out.join(WEIGHTS), &read(WEIGHTS)?)?;
        let kind = config["peft_type"].as_str().unwrap_or("?");
        output::print(format_args!("{}: {kind} adapter for {}", self.out.display(), config["base_model_name_or_path"]));
        Ok(())
    }
}

impl Import {
    pub(super) fn run(&self) -> Result<()> {
        self.data.own.read()?;
        let task = datasets::tasks::find(&self.task.trim().to_lowercase())?;
        let adapter = AttachedAdapter::load(&self.adapter, &self.backbone, task, &self.evaluation)?;
        let data = self.data.of_task(task)?;
        let (mut rows, mut found) = (Vec::new(), Vec::new());
        for (name, examples) in data.dev(task)? {
            let (encoded, predicted) = adapter.predict(&examples)?;
            for (metric, value) in scores(task, &encoded, &predicted.values)? {
                found.push(Score { task: task.name, dev_set: name, metric, value: 100.0 * value, rows: encoded.len() });
            }
            rows.extend(encoded.iter().zip(predicted.values).zip(predicted.logits).map(
                |((row, prediction), logits)| {
                    let logits = logits.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
                    Row { dev_set: name, row: row.row, label: row.label, prediction, logits }
                },
            ));
        }
        if self.json {
            output::print(format_args!("{:#}", serde_json::json!(found)));
        } else {
            for Score { dev_set, metric, value, .. } in &found {
                let set = if *dev_set == "dev" { String::new() } else { format!(" {dev_set}") };
                output::print(format_args!("{}, development set{set}: {metric} {value:.2}", task.title));
            }
        }
        self.out.as_ref().map_or(Ok(()), |path| write_csv(path, &rows))
    }
}

impl Merge {
    pub(super) fn run(&self) -> Result<()> {
        let place = paths::backbone(&self.backbone, &download::hub())?;
        let encoder = encoders::load(&place.dir, Device::Cpu, Kind::Float)?;
        let trained = read_adapter(&self.adapter, encoder.as_ref())?;
        tell(trained.as_ref());
        merge::write(trained.as_ref(), encoder.as_ref(), (&place.dir, &self.adapter), &self.out)?;
        output::print(format_args!(
            "{}: {} with the adapter of {} folded in",
            self.out.display(),
            place.name,
            self.adapter.display()
        ));
        Ok(())
    }
}
