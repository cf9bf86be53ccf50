//! `rankbench verify`: whether a stored run comes out again.

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use tch::Device;

use crate::cli::job::{DataFlags, PendingKernels};
use crate::cli::stored::run_dir;
use crate::env::device::Choice;
use crate::env::micro_batch::MicroBatch;
use crate::env::output;
use crate::error::{Error, Result};
use crate::load::backbone::Backbone;
use crate::load::download;
use crate::load::paths;
use crate::load::task_data::TaskCache;
use crate::plan::recipe::Source;
use crate::plan::spec::{NUMERICS, Precision, RunSpec};
use crate::store::read::load;
use crate::store::record::{Manifest, RunRecord, Status};
use crate::store::stored_spec::StoredSpec;
use crate::train::manifest;
use crate::train::retrace::{Retraced, epochs_of, retrace};

/// `rankbench verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// A finished run: its id, the beginning of one id alone, or its directory.
    run: String,
    /// The directory of a sweep that holds it.
    #[arg(long, default_value = "results", value_name = "OUT")]
    out: PathBuf,
    /// Steps to make again, from the first; rounded up to whole epochs, since the stored losses are means over an epoch.
    #[arg(long, default_value = "20", value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Backbone: a directory, the name of one below .cache/backbones, or a repository on the Hub; by the run's own name for it where it
    /// is left out.
    #[arg(long)]
    backbone: Option<String>,
    /// As JSON; the lines go to standard error.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    data: DataFlags,
}

impl Verify {
    pub(super) fn run(&self) -> Result<()> {
        self.data.own.read()?;
        let record = load(&run_dir(&self.run, &self.out)?)?;
        let spec = made_here(&record)?;
        let task = datasets::tasks::find(&spec.task)?;
        let source = if spec.data.source == "micro" { Source::Micro } else { Source::Glue };
        // Whether the rows are the run's is told by their sum.
        let flags = DataFlags { allow_unlocked: true, ..self.data.clone() };
        let hub = download::hub();
        let data = TaskCache::new(flags.origin(source, &[task], &hub)?);
        let device = if spec.train.device == "cpu" { Choice::Cpu } else { Choice::Cuda }.device()?;
        let place = paths::backbone(self.backbone_name(spec), &hub)?;
        let _ = PendingKernels::begin(device).load();
        let mut backbone = Backbone::load(&place, spec.backbone.tokenizer, device, device != Device::Cpu)?;
        let rows = record.manifest.as_ref().and_then(|manifest| manifest.micro_batch).and_then(NonZeroUsize::new);
        backbone.micro_batch = rows.map(MicroBatch::Rows);
        self.say(format_args!("{}: {} on {}, seed {}", record.id, spec.method, spec.task, spec.seed));
        for same in inputs(spec, &data.dataset(task)?.sha256, &backbone)? {
            self.say(format_args!("  the same {same}"));
        }
        let tokenized = data.of_run(spec, &backbone.tokenizer)?;
        let differing = provenance(spec, record.manifest.as_ref(), &manifest::manifest(&backbone, &tokenized, 1, None));
        differing.iter().for_each(|fact| self.say(format_args!("  not the same: {fact}")));
        torch_ext::device::allow_tf32(spec.train.precision == Precision::Tf32)?;
        let epochs = epochs_of(spec, tokenized.train.len(), usize::try_from(self.steps).unwrap_or(usize::MAX));
        let found = retrace((spec, record.epochs.as_slice()), &backbone, &tokenized, epochs, &|epoch, found| {
            self.say(tell(epoch, found));
        })?;
        if self.json {
            output::print(format_args!("{:#}", json(&record.id, &found, &differing)));
        }
        self.say(verdict(&record.id, &found, &differing)?);
        Ok(())
    }

    /// Prints a line; beside JSON it is a message.
    fn say(&self, line: impl Display) {
        if self.json { output::note(line) } else { output::print(line) }
    }

    /// The backbone that was named, else the run's own, which may be here or on the Hub.
    fn backbone_name<'a>(&'a self, spec: &'a RunSpec) -> &'a str {
        let known = datasets::backbones::find(&spec.backbone.weights_sha256);
        match (&self.backbone, known) {
            (Some(given), _) => given,
            (None, Some(known)) if paths::local(&spec.backbone.name).is_none() => &known.repository,
            (None, _) => &spec.backbone.name,
        }
    }
}

/// The specification of a whole run that was made here.
fn made_here(record: &RunRecord) -> Result<&RunSpec> {
    let refused = |reason: String| Err(Error::Input(format!("{} cannot be made again: {reason}", record.id)));
    match (&record.spec, &record.status) {
        (StoredSpec::External(_), _) => {
            refused("it was made by another program; `rankbench fsck` checks its predictions and scores".into())
        }
        (_, Status::Damaged(findings)) => refused(findings.join("; ")),
        (_, Status::Failed(reason)) => refused(format!("it failed: {reason}")),
        (_, Status::Unfinished) => refused("it is not finished; `rankbench run` finishes it".into()),
        (StoredSpec::Made(spec), Status::Done(_)) => Ok(spec),
    }
}

/// Sums of data and weights, which are the run's.
///
/// # Errors
/// Any of them is not the run's: then its losses cannot be.
fn inputs(spec: &RunSpec, rows: &str, backbone: &Backbone) -> Result<Vec<String>> {
    let own = &backbone.spec;
    let sums = [
        (format!("data ({})", spec.data.source), spec.data.sha256.as_str(), rows),
        (format!("weights ({})", own.name), spec.backbone.weights_sha256.as_str(), own.weights_sha256.as_str()),
        ("weights, configuration and tokenizer".into(), spec.backbone.sha256.as_str(), own.sha256.as_str()),
        ("reading of the vocabulary".into(), spec.backbone.tokenizer.name(), own.tokenizer.name()),
    ];
    let differs =
        |(what, then, now): &(String, &str, &str)| (then != now).then(|| format!("{what}: {then} then, {now} now"));
    let differing: Vec<String> = sums.iter().filter_map(differs).collect();
    if !differing.is_empty() {
        return Err(Error::Input(format!(
            "the run was made from other inputs. {}. --glue, --task-file and --backbone name others",
            differing.join("; ")
        )));
    }
    Ok(sums.iter().map(|(what, sum, _)| format!("{what}: {sum}")).collect())
}

/// Everything about program and machine that is not as it was when the run was made.
fn provenance(spec: &RunSpec, then: Option<&Manifest>, now: &Manifest) -> Vec<String> {
    let Some(then) = then else { return vec!["no manifest.json says how it was made".into()] };
    let commit = |of: &Manifest| format!("{}{}", of.git_commit, if of.git_dirty { " with changes" } else { "" });
    let parts = |of: &Manifest| of.micro_batch.map_or("all".into(), |rows| rows.to_string());
    let facts = [
        ("numeric version", spec.numerics.to_string(), NUMERICS.to_string()),
        ("commit", commit(then), commit(now)),
        ("Cargo.lock", then.cargo_lock_sha256.clone(), now.cargo_lock_sha256.clone()),
        ("libtorch", then.libtorch.clone(), now.libtorch.clone()),
        ("device", then.device.clone(), now.device.clone()),
        ("driver", then.driver.clone(), now.driver.clone()),
        ("threads", then.threads.to_string(), now.threads.to_string()),
        ("runs side by side", then.together.to_string(), now.together.to_string()),
        ("rows of a part of a step", parts(then), parts(now)),
    ];
    let differs =
        |(what, then, now): &(&str, String, String)| (then != now).then(|| format!("{what} {then} then, {now} now"));
    facts.iter().filter_map(differs).collect()
}

fn tell(epoch: usize, found: &Retraced) -> String {
    let (first, last) = found.steps;
    let text = match found.is_equal() {
        true => format!("equal to the last digit (task loss {}, penalty {})", found.stored.0, found.stored.1),
        false => {
            let (task, penalty) = found.difference();
            format!(
                "task loss {} stored, {} now (differs by {task:e}); penalty {} stored, {} now (by {penalty:e})",
                found.stored.0, found.now.0, found.stored.1, found.now.1
            )
        }
    };
    format!("  epoch {epoch}, mean over steps {first} to {last}: {text}")
}

fn json(run: &str, found: &[Retraced], differing: &[String]) -> Value {
    let epoch = |found: &Retraced| {
        json!({
            "first_step": found.steps.0, "last_step": found.steps.1, "repeats": found.is_equal(),
            "task_loss_stored": found.stored.0, "task_loss_now": found.now.0,
            "penalty_stored": found.stored.1, "penalty_now": found.now.1,
        })
    };
    json!({
        "run": run,
        "repeats": found.iter().all(Retraced::is_equal),
        "epochs": found.iter().map(epoch).collect::<Vec<_>>(),
        "not_the_same": differing,
    })
}

/// The last line: whether the losses repeat.
fn verdict(run: &str, found: &[Retraced], differing: &[String]) -> Result<String> {
    let steps = found.last().map_or(0, |last| last.steps.1);
    let Some(first) = found.iter().find(|epoch| !epoch.is_equal()) else {
        return Ok(format!("{run}: the losses of the first {steps} steps repeat to the last digit"));
    };
    let why = match differing.is_empty() {
        true => "nothing that is stored of program and machine is another: this is a bug or a fault of the machine"
            .to_string(),
        false => format!("not the same: {}", differing.join("; ")),
    };
    Err(Error::NotRepeated(format!(
        "{run} does not repeat: over steps {} to {} the mean task loss differs by {:e}, the penalty by {:e}. {why}",
        first.steps.0,
        first.steps.1,
        first.difference().0,
        first.difference().1
    )))
}
