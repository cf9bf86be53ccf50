//! Whether a stored run is the run that was made: its name, its files' sums, and its metrics computed again from its predictions.

use std::fmt;
use std::fs;
use std::path::Path;

use datasets::metrics::Metric;

use crate::plan::spec::NUMERICS;
use crate::store::record::{RunRecord, SetPredictions};
use crate::store::rows::Outcome;
use crate::store::stored_spec::StoredSpec;
use crate::store::sums::sum;

/// Files that a finished run holds, whatever its method.
const FILES: [&str; 8] = [
    "run.toml",
    "manifest.json",
    "epochs.csv",
    "evals.csv",
    "ranks.csv",
    "predictions.csv",
    "outcome.json",
    "adapter/adapter_config.json",
];
/// Files that a run holds which was made elsewhere.
const EXTERNAL_FILES: [&str; 4] = ["run.toml", "added.json", "predictions.csv", "outcome.json"];
/// Rounding of a metric that was printed and read.
const ROUNDING: f64 = 1e-12;

/// Something wrong with a finished run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// Its directory has not the name of the run in it, which is this.
    OtherName(String),
    /// `DONE` is empty.
    NoSums,
    /// Anything else, in words.
    Other(String),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Flaw::OtherName(id) => {
                write!(f, "run.toml is that of {id}: the directory was copied or renamed, or the file was changed")
            }
            Flaw::NoSums => {
                write!(f, "DONE holds no sums: the run was finished by an older program, or the file was emptied")
            }
            Flaw::Other(text) => write!(f, "{text}"),
        }
    }
}

/// Everything that is wrong with a finished run; empty for one that is as it was written.
pub fn check(dir: &Path, record: &RunRecord, outcome: &Outcome) -> Vec<Flaw> {
    let mut flaws: Vec<Flaw> = name_flaw(record).into_iter().collect();
    let files = files(&record.spec);
    let missing = files.iter().filter(|file| !dir.join(file).is_file());
    flaws.extend(missing.map(|file| Flaw::Other(format!("{file} is missing"))));
    match fs::read_to_string(dir.join("DONE")).unwrap_or_default() {
        sums if sums.is_empty() => flaws.push(Flaw::NoSums),
        sums => flaws.extend(changed_files(dir, &sums, files).into_iter().map(Flaw::Other)),
    }
    flaws.extend(metric_findings(record, outcome).into_iter().map(Flaw::Other));
    flaws
}

fn files(spec: &StoredSpec) -> &'static [&'static str] {
    match spec {
        StoredSpec::Made(_) => &FILES,
        StoredSpec::External(_) => &EXTERNAL_FILES,
    }
}

/// The directory's name is the hash of what it holds; a run of an older program has no such name.
fn name_flaw(record: &RunRecord) -> Option<Flaw> {
    let id = record.spec.id();
    if record.spec.made().is_some_and(|spec| spec.numerics == 0) {
        return Some(Flaw::Other(format!(
            "it was made by a program whose runs did not say their numeric version (this one has {NUMERICS}); its numbers may differ"
        )));
    }
    (record.id != id).then_some(Flaw::OtherName(id))
}

fn changed_files(dir: &Path, sums: &str, files: &[&str]) -> Vec<String> {
    let changed = |line: &str| {
        let Some((expected, name)) = line.split_once("  ") else { return Some("a line of DONE is cut".to_string()) };
        let path = dir.join(name);
        // A missing one of the usual files has its own finding.
        if files.contains(&name) && !path.exists() {
            return None;
        }
        match sum(&path) {
            Ok(sum) if sum == expected => None,
            Ok(_) => Some(format!("{name} is not the file that was written (another sha256)")),
            Err(error) => Some(error.to_string()),
        }
    };
    // A list that was cut at the end of a line is shorter.
    let is_listed = |file: &str| sums.lines().any(|line| line.ends_with(&format!("  {file}")));
    let unlisted = files.iter().filter(|file| dir.join(file).is_file() && !is_listed(file));
    let unlisted = unlisted.map(|file| format!("DONE holds no sum of {file}"));
    sums.lines().filter_map(changed).chain(unlisted).collect()
}

fn metric_findings(record: &RunRecord, outcome: &Outcome) -> Vec<String> {
    let metrics = match datasets::tasks::find(record.spec.task()) {
        Ok(task) if task.file.is_none() => task.metrics,
        // The file of a user's own task need not be at hand.
        _ if record.spec.data().source == "own" => Metric::ALL,
        _ => return vec![format!("its task '{}' is not known", record.spec.task())],
    };
    let mut findings = Vec::new();
    for result in &outcome.results {
        let of_split =
            |split: &str| record.predictions.iter().find(|set| set.dev_set == result.dev_set && set.split == split);
        let validation = of_split("validation");
        let Some(test) = of_split("test").or(validation) else {
            findings.push(format!("predictions.csv has no rows of {}", result.dev_set));
            continue;
        };
        if test.labels.len() != result.test_examples {
            let (rows, expected) = (test.labels.len(), result.test_examples);
            findings
                .push(format!("predictions.csv has {rows} rows of {}, outcome.json says {expected}", result.dev_set));
            continue;
        }
        let stored = result.test.iter().map(|(name, value)| (test, name, *value));
        let selection = validation.zip(result.selection_value);
        let selection = selection.map(|(set, value)| (set, &result.selection_metric, value));
        for (set, name, value) in stored.chain(selection) {
            findings.extend(metric_finding(metrics, set, name, value));
        }
    }
    findings
}

fn metric_finding(metrics: &[Metric], set: &SetPredictions, name: &str, stored: f64) -> Option<String> {
    let metric = metrics.iter().find(|metric| metric.name() == name)?;
    let place = format!("{name} on {} ({})", set.dev_set, set.split);
    match metric.compute(&set.labels, &set.predictions) {
        Ok(value) if (value - stored).abs() <= ROUNDING => None,
        Ok(value) => Some(format!("outcome.json says {place} is {stored}, its predictions give {value}")),
        Err(error) => Some(format!("{place} cannot be computed from its predictions: {error}")),
    }
}
