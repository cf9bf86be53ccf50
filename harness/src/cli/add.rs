//! `rankbench add`: a run that another program made becomes a run of a store, its metrics computed here.

use std::path::{Path, PathBuf};

use clap::Args;
use datasets::Task;
use datasets::split::{self, Policy, Split, TEST, VALIDATION};
use serde_json::json;

use crate::analysis::summary::method_title;
use crate::cli::attached_adapter::{AttachedAdapter, CONFIG, EvaluationFlags, WEIGHTS};
use crate::cli::job::DataFlags;
use crate::env::{output, version};
use crate::error::{Error, Result};
use crate::launch::headline::metrics;
use crate::load::backbone;
use crate::load::predictions::{self, SplitPredictions};
use crate::plan::external::{Elsewhere, ExternalSpec, StatedBackbone, StatedParameters, StatedTraining};
use crate::plan::grid;
use crate::plan::spec::{DataSpec, Precision};
use crate::store::external::{Added, ExternalRun};
use crate::store::record::Addition;
use crate::store::rows::{DevSetResult, Outcome, PeakMiB, PredictionRow};
use crate::store::sums::sum;
use crate::store::unix_time;
use crate::train::collapse::collapse_reasons;

/// `rankbench add`.
#[derive(Debug, Args)]
pub struct Add {
    /// Name of the method: lower-case letters, digits and `_`. One of ours is shown as a row of its own beside it.
    #[arg(long, value_name = "NAME", value_parser = method)]
    method: String,
    /// Task; `rankbench list tasks` names them.
    #[arg(long)]
    task: String,
    /// Seed of the run: it is paired with our runs of the same seed.
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
    /// Predictions: CSV with a header, or one JSON object a line. `row` is the number in the official file (`rankbench split`),
    /// `prediction` a class or score, or `logits` with blanks between them; `split` (test where it is left out) and `dev_set` where
    /// there are several.
    #[arg(long, value_name = "FILE", required_unless_present = "adapter", conflicts_with = "adapter")]
    predictions: Option<PathBuf>,
    /// An adapter in PEFT's layout instead: the predictions are made here, in float32, on --backbone.
    #[arg(long, value_name = "DIR", requires = "backbone")]
    adapter: Option<PathBuf>,
    /// The run goes to OUT/runs.
    #[arg(long, default_value = "results", value_name = "OUT")]
    out: PathBuf,
    /// How rows were divided: sora or official.
    #[arg(long, default_value = "sora")]
    policy: Policy,
    /// Replace another run of the same method, task, seed and setting.
    #[arg(long)]
    force: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    stated: Stated,
    #[command(flatten)]
    evaluation: EvaluationFlags,
    #[command(flatten)]
    data: DataFlags,
}

/// Stated setting of the run, as far as it is known.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "What is known of it; what is left out is not stated, and is compared with nothing")]
struct Stated {
    /// Name of the method in tables.
    #[arg(long)]
    title: Option<String>,
    /// Backbone: a directory, the name of one below .cache/backbones, or a repository's name. Runs of one backbone stand in one table.
    #[arg(long)]
    backbone: Option<String>,
    /// Passes over the training rows.
    #[arg(long, value_parser = count)]
    epochs: Option<usize>,
    /// Rows of one step.
    #[arg(long, value_parser = count)]
    batch_size: Option<usize>,
    /// Number of training rows, the first ones, where it was not trained on all.
    #[arg(long, value_name = "N", value_parser = count)]
    train_limit: Option<usize>,
    /// Peak learning rate.
    #[arg(long, value_parser = rate)]
    lr: Option<f64>,
    /// Number format.
    #[arg(long)]
    precision: Option<Precision>,
    /// An option of the method, e.g. r=8. Can be given again.
    #[arg(long = "option", value_name = "KEY=VALUE", value_parser = option)]
    options: Vec<(String, toml::Value)>,
    /// Trained values but the head's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    allocated: Option<i64>,
    /// Those left after pruning.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    effective: Option<i64>,
    /// Where it comes from: program, commit, address.
    #[arg(long, default_value = "", hide_default_value = true)]
    source: String,
}

fn method(text: &str) -> std::result::Result<String, String> {
    let name = text.trim().to_lowercase();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match !name.is_empty() && name.chars().all(is_plain) {
        true => Ok(name),
        false => Err("expected letters, digits and _; --title takes any text".into()),
    }
}

fn option(text: &str) -> std::result::Result<(String, toml::Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    let (key, value) = (key.trim(), value.trim());
    let is_one_word = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    if !is_one_word(key) || !is_one_word(value) {
        return Err("expected KEY=VALUE without blanks in either".into());
    }
    let parsed = grid::value(value);
    let is_scalar = parsed.is_integer() || parsed.is_float() || parsed.is_bool();
    Ok((key.to_string(), if is_scalar { parsed } else { value.into() }))
}

impl Add {
    pub(super) fn run(&self) -> Result<()> {
        self.data.own.read()?;
        let task = datasets::tasks::find(&self.task.trim().to_lowercase())?;
        let data = self.data.of_task(task)?;
        let dataset = data.dataset(task)?;
        let split = split::split(&dataset, self.policy);
        let rows = DataSpec {
            source: dataset.source.into(),
            sha256: dataset.sha256.clone(),
            split: self.policy,
            train_limit: self.stated.train_limit,
        };
        let mut given = match (&self.predictions, &self.adapter) {
            (Some(path), _) => self.read(path, &split, task)?,
            (None, Some(dir)) => self.evaluate(dir, &split, task)?,
            (None, None) => return Err(Error::Usage("give --predictions FILE or --adapter DIR".into())),
        };
        given.files.extend(dataset.files.iter().cloned());
        let outcome = outcome(task, &split, &given.predictions)?;
        let run = ExternalRun {
            spec: self.spec(task, rows, given.backbone),
            addition: addition(given.files),
            predictions: given.predictions.iter().flat_map(prediction_rows).collect(),
            outcome,
            adapter: given.adapter,
        };
        let added = run.store(&self.out.join("runs"), self.force)?;
        self.say(&run, task, added);
        Ok(())
    }

    fn spec(&self, task: &Task, data: DataSpec, backbone: StatedBackbone) -> ExternalSpec {
        let stated = &self.stated;
        ExternalSpec {
            origin: Elsewhere::External,
            task: task.name.into(),
            method: self.method.clone(),
            seed: self.seed,
            title: stated.title.clone().unwrap_or_else(|| method_title(&self.method)),
            source: stated.source.clone(),
            data,
            backbone,
            train: StatedTraining {
                epochs: stated.epochs,
                batch_size: stated.batch_size,
                lr: stated.lr,
                precision: stated.precision,
            },
            parameters: StatedParameters { allocated: stated.allocated, effective: stated.effective },
            options: stated.options.iter().cloned().collect(),
        }
    }

    fn read(&self, path: &Path, split: &Split, task: &'static Task) -> Result<Given> {
        let predictions = predictions::fit(&predictions::read(path, task)?, split, task)?;
        let backbone = self.stated.backbone.as_deref().map_or(Ok(StatedBackbone::default()), backbone::stated)?;
        Ok(Given { predictions, backbone, files: vec![(path.display().to_string(), sum(path)?)], adapter: None })
    }

    fn evaluate(&self, dir: &Path, split: &Split, task: &'static Task) -> Result<Given> {
        let name = self.stated.backbone.as_deref().unwrap_or_default();
        let adapter = AttachedAdapter::load(dir, name, task, &self.evaluation)?;
        let mut found = Vec::new();
        for set in &split.dev_sets {
            let test = (TEST, &set.test);
            let parts = [(VALIDATION, &set.validation), test];
            for (split, rows) in parts.into_iter().take(if set.is_one_set() { 1 } else { 2 }) {
                let (encoded, predicted) = adapter.predict(rows)?;
                let (rows, labels) = encoded.iter().map(|row| (row.row, row.label)).unzip();
                found.push(SplitPredictions { split, dev_set: set.name, rows, labels, values: predicted.values });
            }
        }
        let spec = &adapter.backbone().spec;
        let backbone = StatedBackbone { name: spec.name.clone(), weights_sha256: spec.weights_sha256.clone() };
        let own = [CONFIG, WEIGHTS].map(|name| dir.join(name)).into_iter().filter(|path| path.is_file());
        let mut files = own.map(|path| Ok((path.display().to_string(), sum(&path)?))).collect::<Result<Vec<_>>>()?;
        files.extend(adapter.backbone().files.iter().cloned());
        let written = adapter.files()?;
        Ok(Given { predictions: found, backbone, files, adapter: Some((written.config, written.weights)) })
    }

    fn say(&self, run: &ExternalRun, task: &Task, added: Added) {
        let word = match added {
            Added::New => "added",
            Added::Known => "there already",
            Added::Replaced => "replaced",
        };
        if self.json {
            let (run, results) = (run.spec.id(), &run.outcome.results);
            output::print(format_args!(
                "{:#}",
                json!({ "run": run, "out": self.out.display().to_string(), "state": word, "results": results })
            ));
        } else {
            self.say_lines(run, task, word);
        }
        run.outcome.collapse.iter().for_each(|sign| output::note(format_args!("collapsed: {sign}")));
        if run.spec.backbone.weights_sha256.is_empty() {
            output::note(
                "the weights of its backbone are not known (--backbone), so it stands in a table of its own and is tested against nothing",
            );
        }
    }

    fn say_lines(&self, run: &ExternalRun, task: &Task, word: &str) {
        for set in &run.outcome.results {
            let name = if task.dev_sets().len() > 1 { format!(" {}", set.dev_set) } else { String::new() };
            let split = if self.policy == Policy::Official { "development set" } else { "test" };
            let (values, rows) = (metrics(&set.test), set.test_examples);
            output::print(format_args!("{}{name}: {split} {values} ({rows} rows)", task.title));
        }
        let out = self.out.display();
        output::print(format_args!("{word}: {out}/runs/{}; `rankbench report {out}` shows it", run.spec.id()));
    }
}

/// Predictions with what is known of where they come from.
struct Given {
    predictions: Vec<SplitPredictions>,
    backbone: StatedBackbone,
    files: Vec<(String, String)>,
    adapter: Option<(serde_json::Value, Vec<u8>)>,
}

fn addition(files: Vec<(String, String)>) -> Addition {
    Addition {
        rankbench: env!("CARGO_PKG_VERSION").into(),
        git_commit: version::COMMIT.into(),
        git_dirty: version::is_dirty(),
        files,
        added_unix: unix_time::now(),
    }
}

/// Scores by the metrics that the runs made here have.
fn outcome(task: &Task, split: &Split, found: &[SplitPredictions]) -> Result<Outcome> {
    let (mut results, mut collapse) = (Vec::new(), Vec::new());
    for set in &split.dev_sets {
        let of = |name: &str| found.iter().find(|own| own.dev_set == set.name && own.split == name);
        let validation = of(VALIDATION);
        let reported = of(TEST).or(validation);
        let reported = reported.ok_or_else(|| Error::Internal(format!("no prediction on {}", set.name)))?;
        let test = task.scores(&reported.labels, &reported.values)?;
        collapse.extend(collapse_reasons(set.name, &reported.values, &test));
        let selected = validation.map(|own| task.selection.compute(&own.labels, &own.values)).transpose()?;
        results.push(DevSetResult {
            dev_set: set.name.into(),
            selected_step: None,
            selection_metric: task.selection.name().into(),
            selection_value: selected,
            test,
            test_examples: reported.rows.len(),
        });
    }
    let (parameters, steps, wall_seconds, seconds) = Default::default();
    Ok(Outcome { results, parameters, steps, wall_seconds, seconds, memory: PeakMiB::default(), collapse })
}

fn prediction_rows(found: &SplitPredictions) -> impl Iterator<Item = PredictionRow> + '_ {
    let values = found.rows.iter().zip(&found.labels).zip(&found.values);
    values.map(|((row, label), prediction)| PredictionRow {
        split: found.split.into(),
        dev_set: found.dev_set.into(),
        row: *row,
        label: *label,
        prediction: *prediction,
    })
}

fn count(text: &str) -> std::result::Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "expected a whole number above 0".into())
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "expected a number above 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_options_are_plain() {
        assert_eq!(method(" My_1 ").unwrap(), "my_1");
        assert!(method("my-method").is_err() && method("").is_err());
        assert_eq!(option("r=8").unwrap(), ("r".into(), toml::Value::Integer(8)));
        assert_eq!(option("alpha = 16.0").unwrap(), ("alpha".into(), toml::Value::Float(16.0)));
        assert_eq!(option("init=pissa").unwrap(), ("init".into(), toml::Value::String("pissa".into())));
        for wrong in ["r", "r=", "=8", "a b=1", "a=b c"] {
            assert!(option(wrong).is_err(), "{wrong}");
        }
    }
}
