//! Names of a run in a table: its protocol, its options, and what tells its row from its neighbours.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::analysis::frame::ResultRow;
use crate::plan::origin::RunOrigin;
use crate::plan::spec::RunSpec;
use crate::store::record::RunRecord;

/// Fields that must be equal for runs to stand in one table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protocol {
    /// `micro` (synthetic), `glue` or `glue-unlocked`.
    pub data_source: String,
    /// Backbone, as it is shown.
    pub backbone: String,
    /// sha256 of its weights, by which it is told from others.
    pub weights_sha256: String,
    /// Split policy.
    pub split: String,
}

impl Protocol {
    /// Of a row.
    pub fn of(row: &ResultRow) -> Self {
        Protocol {
            data_source: row.data_source.clone(),
            backbone: row.backbone.clone(),
            weights_sha256: row.weights_sha256.clone(),
            split: row.split.clone(),
        }
    }

    /// Of a specification.
    pub fn from_spec(spec: &RunSpec) -> Self {
        let known = datasets::backbones::find(&spec.backbone.weights_sha256);
        Protocol {
            data_source: spec.data.source.clone(),
            backbone: known.map_or_else(|| spec.backbone.name.clone(), |known| known.name.clone()),
            weights_sha256: spec.backbone.weights_sha256.clone(),
            split: plain(&spec.data.split),
        }
    }

    /// Whether the rows are synthetic.
    pub fn is_synthetic(&self) -> bool {
        self.data_source == "micro"
    }

    /// For titles: `SYNTHETIC micro-GLUE (not GLUE), all-MiniLM-L6-v2, split sora`.
    pub fn title(&self) -> String {
        let data = match self.data_source.as_str() {
            "micro" => "SYNTHETIC micro-GLUE (not GLUE)",
            "glue" => "GLUE",
            "glue-unlocked" => "GLUE in files that are not the locked ones",
            other => other,
        };
        format!("{data}, {}, split {}", self.backbone, self.split)
    }

    /// For file names: lower-case letters, digits and hyphens; weights of one name differ in their first digits.
    pub fn slug(&self) -> String {
        let weights: String = self.weights_sha256.chars().take(6).collect();
        let joined = format!("{} {} {weights} {}", self.data_source, self.backbone, self.split).to_lowercase();
        let mut slug: String = joined.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        while slug.contains("--") {
            slug = slug.replace("--", "-");
        }
        slug.trim_matches('-').to_string()
    }
}

/// Every option of the method, `key=value` joined by blanks.
pub fn options(spec: &RunSpec) -> String {
    let mut settings = BTreeMap::new();
    flatten("", &toml::Value::Table(spec.options.clone()), &mut settings);
    join(settings.iter())
}

type Settings = BTreeMap<String, String>;

/// One label a run, in the order of `runs`, empty for the base row of its protocol and method.
///
/// The base row is the configuration rule (recipe and flags) of the run that was started first: whatever its options are on each task.
/// Another run is labelled by what differs from the base row's run of the same task, so that a run more never changes a row that
/// was there. Runs of a further rule whose differences are not the same on every task are one row named by the recipe.
pub fn variants(runs: &[RunRecord]) -> Vec<String> {
    let mut groups: BTreeMap<(Protocol, &str), Vec<usize>> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        groups.entry((Protocol::from_spec(&run.spec), run.spec.method.as_str())).or_default().push(index);
    }
    let settings: Vec<Settings> = runs.iter().map(|run| settings(&run.spec)).collect();
    let mut labels = vec![String::new(); runs.len()];
    for (_, mut members) in groups {
        members.sort_by_key(|&index| (started(&runs[index]), runs[index].id.as_str()));
        for (index, label) in of_group(runs, &settings, &members) {
            labels[index] = label;
        }
    }
    labels
}

fn started(run: &RunRecord) -> u64 {
    run.manifest.as_ref().map_or(0, |manifest| manifest.started_unix)
}

fn origin(run: &RunRecord) -> RunOrigin {
    run.manifest.as_ref().map(|manifest| manifest.origin.clone()).unwrap_or_default()
}

/// Labels of the runs of one protocol and method; `members` are in the order they were started.
fn of_group(runs: &[RunRecord], settings: &[Settings], members: &[usize]) -> Vec<(usize, String)> {
    let Some(&first) = members.first() else { return Vec::new() };
    let base_rule = origin(&runs[first]);
    // The settings of each task in the base row: those of its first run of the base rule.
    let mut base: BTreeMap<&str, &Settings> = BTreeMap::new();
    for &index in members.iter().filter(|&&index| origin(&runs[index]) == base_rule) {
        base.entry(runs[index].spec.task.as_str()).or_insert(&settings[index]);
    }
    let difference = |index: usize| Some(differing(&settings[index], base.get(runs[index].spec.task.as_str())?));
    let mut by_rule: BTreeMap<RunOrigin, BTreeSet<String>> = BTreeMap::new();
    for &index in members {
        by_rule.entry(origin(&runs[index])).or_default().extend(difference(index).filter(|text| !text.is_empty()));
    }
    let label = |index: usize| {
        let rule = origin(&runs[index]);
        let of_rule = by_rule.get(&rule);
        let single = of_rule.filter(|texts| texts.len() <= 1).and_then(|texts| texts.first());
        match (difference(index), single) {
            (Some(text), _) if text.is_empty() || rule == base_rule => text,
            (_, Some(text)) => text.clone(),
            (Some(_), None) | (None, None) => named(&rule, &base_rule),
        }
    };
    members.iter().map(|&index| (index, label(index))).collect()
}

/// Name of a rule whose differences have no single text; its digits where the recipe is the base row's.
fn named(rule: &RunOrigin, base: &RunOrigin) -> String {
    match rule.recipe == base.recipe {
        true => format!("{} changed, {}", rule.recipe, rule.rule.chars().take(4).collect::<String>()),
        false => rule.recipe.clone(),
    }
}

/// The settings of `own` that are others than those of `base`, or have none there.
fn differing(own: &Settings, base: &Settings) -> String {
    join(own.iter().filter(|(key, value)| base.get(*key) != Some(value)))
}

/// Everything in a specification but task, method, seed, numeric version and protocol, flat.
fn settings(spec: &RunSpec) -> Settings {
    let mut settings = BTreeMap::new();
    flatten("", &toml::Value::Table(spec.options.clone()), &mut settings);
    if let Ok(train) = toml::Value::try_from(&spec.train) {
        flatten("", &train, &mut settings);
    }
    if let Some(limit) = spec.data.train_limit {
        settings.insert("train_limit".into(), limit.to_string());
    }
    settings.insert("data".into(), spec.data.sha256.chars().take(8).collect());
    // Weights are the protocol's; the rest of the directory is configuration and tokenizer.
    settings.insert("configuration".into(), spec.backbone.sha256.chars().take(8).collect());
    settings.insert("tokenizer".into(), spec.backbone.tokenizer.name().into());
    settings
}

fn flatten(prefix: &str, value: &toml::Value, into: &mut Settings) {
    match value {
        toml::Value::Table(table) => {
            for (key, inner) in table {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, inner, into);
            }
        }
        toml::Value::String(text) => {
            into.insert(prefix.into(), text.clone());
        }
        other => {
            into.insert(prefix.into(), other.to_string());
        }
    }
}

fn join<'a>(settings: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    settings.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// A value as its serialised text; a plain name for a unit variant.
fn plain(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(error) => format!("unnamed ({error})"),
    }
}
