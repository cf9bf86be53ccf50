//! What a run is called in a table: its protocol, its options, and what tells it from its neighbours.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::ResultRow;
use crate::spec::RunSpec;
use crate::store::RunRecord;

/// What must agree for runs to stand in one table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protocol {
    /// `micro` (synthetic) or `glue`.
    pub data_source: String,
    /// Backbone.
    pub backbone: String,
    /// Split policy.
    pub split: String,
}

impl Protocol {
    /// Of a row.
    pub fn of(row: &ResultRow) -> Self {
        Protocol { data_source: row.data_source.clone(), backbone: row.backbone.clone(), split: row.split.clone() }
    }

    /// Of a specification.
    pub fn from_spec(spec: &RunSpec) -> Self {
        Protocol {
            data_source: spec.data.source.clone(),
            backbone: spec.backbone.name.clone(),
            split: plain(&spec.data.split),
        }
    }

    /// Whether the rows are synthetic.
    pub fn is_synthetic(&self) -> bool {
        self.data_source == "micro"
    }

    /// For titles: `SYNTHETIC micro-GLUE (not GLUE), MiniLM-L6-H384, split sora`.
    pub fn title(&self) -> String {
        let data = match self.data_source.as_str() {
            "micro" => "SYNTHETIC micro-GLUE (not GLUE)",
            "glue" => "GLUE",
            other => other,
        };
        format!("{data}, {}, split {}", self.backbone, self.split)
    }

    /// For file names: lower-case letters, digits and hyphens.
    pub fn slug(&self) -> String {
        let joined = format!("{} {} {}", self.data_source, self.backbone, self.split).to_lowercase();
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

/// One label a run, in the order of `runs`: the settings that differ between runs of the same protocol, method and task,
/// so that two settings never share a row; empty where there is only one setting.
pub fn variants(runs: &[RunRecord]) -> Vec<String> {
    let settings: Vec<BTreeMap<String, String>> = runs.iter().map(|run| settings(&run.spec)).collect();
    let mut differing: BTreeMap<(Protocol, &str), BTreeSet<&str>> = BTreeMap::new();
    let mut first: BTreeMap<(Protocol, &str, &str), usize> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate() {
        let (protocol, method) = (Protocol::from_spec(&run.spec), run.spec.method.as_str());
        let start = *first.entry((protocol.clone(), method, run.spec.task.as_str())).or_insert(index);
        let keys = settings[index].keys().chain(settings[start].keys());
        let differ = keys.filter(|key| settings[index].get(*key) != settings[start].get(*key)).map(String::as_str);
        differing.entry((protocol, method)).or_default().extend(differ);
    }
    let label = |(index, run): (usize, &RunRecord)| {
        let keys = differing.get(&(Protocol::from_spec(&run.spec), run.spec.method.as_str()));
        join(settings[index].iter().filter(|(key, _)| keys.is_some_and(|keys| keys.contains(key.as_str()))))
    };
    runs.iter().enumerate().map(label).collect()
}

/// Everything in a specification but task, method, seed and protocol, flat.
fn settings(spec: &RunSpec) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    flatten("", &toml::Value::Table(spec.options.clone()), &mut settings);
    if let Ok(train) = toml::Value::try_from(&spec.train) {
        flatten("", &train, &mut settings);
    }
    if let Some(limit) = spec.data.train_limit {
        settings.insert("train_limit".into(), limit.to_string());
    }
    settings.insert("data".into(), spec.data.sha256.chars().take(8).collect());
    settings.insert("weights".into(), spec.backbone.sha256.chars().take(8).collect());
    settings
}

fn flatten(prefix: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
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
