//! Labels that tell the settings of one method apart.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::frame::group::ReportGroup;
use crate::plan::external::ExternalSpec;
use crate::plan::grid;
use crate::plan::origin::RunOrigin;
use crate::plan::spec::RunSpec;
use crate::store::record::{Manifest, RunRecord};
use crate::store::stored_spec::StoredSpec;

/// Flat settings, `key` to `value`.
pub type Settings = BTreeMap<String, String>;

/// Everything that a run's label depends on.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSetting {
    /// Run id.
    pub run: String,
    /// Its group.
    pub group: ReportGroup,
    /// Method name.
    pub method: String,
    /// Task name.
    pub task: String,
    /// Start, seconds since 1970; the largest number for a run that has not begun.
    pub started: u64,
    /// Recipe and rule it was made for.
    pub origin: RunOrigin,
    /// Label that its recipe gave its setting; empty without one.
    pub label: String,
    /// Whether it was made elsewhere.
    pub is_external: bool,
    /// Everything in its specification but task, method, seed, numeric version and group.
    pub settings: Settings,
    /// Version of the program that made it, and what it was built with; nothing of a run that was made elsewhere.
    pub program: Settings,
}

impl RunSetting {
    /// Setting of a stored run.
    pub fn of(run: &RunRecord) -> Self {
        let added = run.addition.as_ref().map(|addition| addition.added_unix);
        let started = run.manifest.as_ref().map(|manifest| manifest.started_unix);
        RunSetting {
            run: run.id.clone(),
            group: ReportGroup::of_spec(&run.spec),
            method: run.spec.method().into(),
            task: run.spec.task().into(),
            // One that has not begun comes last: it must not name the rows that are there.
            started: started.or(added).unwrap_or(u64::MAX),
            origin: run.manifest.as_ref().map(|manifest| manifest.origin.clone()).unwrap_or_default(),
            label: run.spec.made().map(|spec| spec.label.clone()).unwrap_or_default(),
            is_external: run.spec.made().is_none(),
            settings: match &run.spec {
                StoredSpec::Made(spec) => settings(spec),
                StoredSpec::External(spec) => stated(spec),
            },
            program: run.manifest.as_ref().map(program).unwrap_or_default(),
        }
    }
}

/// Version of the program that wrote a manifest, and the first digits of its Cargo.lock's sum.
fn program(manifest: &Manifest) -> Settings {
    let lock = manifest.cargo_lock_sha256.chars().take(8).collect();
    Settings::from([("cargo_lock".into(), lock), ("rankbench".into(), manifest.rankbench.clone())])
}

/// Label of a method's first setting that was made elsewhere; the labels of its others begin with it.
pub const EXTERNAL: &str = "external";

/// Every option of the method, `key=value` joined by blanks.
pub fn options(spec: &StoredSpec) -> String {
    let mut settings = Settings::new();
    flatten("", &toml::Value::Table(spec.options().clone()), &mut settings);
    join(settings.iter())
}

/// One label a run, in the order of `runs`; empty for the base row of its group and method.
///
/// A run that its recipe gave a label has that one. Of the others, the base row is the configuration rule (recipe and flags) of the run that was started first, whatever its options are on each task.
/// Another run is labelled by what differs from the base row's run of the same task, so that a further run never changes a row that
/// was there. Runs of another rule whose differences are not the same on every task are one row named by the recipe.
///
/// Runs that were made elsewhere have a base row of their own, labelled [`EXTERNAL`].
pub fn labels(runs: &[RunSetting]) -> Vec<String> {
    let mut rows: BTreeMap<(&ReportGroup, &str, bool), Vec<usize>> = BTreeMap::new();
    for (index, run) in runs.iter().enumerate().filter(|(_, run)| run.label.is_empty()) {
        rows.entry((&run.group, run.method.as_str(), run.is_external)).or_default().push(index);
    }
    let mut labels: Vec<String> = runs.iter().map(|run| run.label.clone()).collect();
    for ((.., is_external), mut members) in rows {
        members.sort_by_key(|&index| (runs[index].started, runs[index].run.as_str()));
        for (index, label) in labels_of_method(runs, &members) {
            labels[index] = if is_external { format!("{EXTERNAL} {label}").trim_end().into() } else { label };
        }
    }
    labels
}

/// Labels of the runs of one group and method; `members` are in the order they were started.
fn labels_of_method(runs: &[RunSetting], members: &[usize]) -> Vec<(usize, String)> {
    let Some(&first) = members.first() else { return Vec::new() };
    let base_rule = &runs[first].origin;
    // The settings of each task in the base row: those of its first run of the base rule.
    let mut base: BTreeMap<&str, &Settings> = BTreeMap::new();
    for run in members.iter().map(|&index| &runs[index]).filter(|run| run.origin == *base_rule) {
        base.entry(run.task.as_str()).or_insert(&run.settings);
    }
    let difference = |run: &RunSetting| Some(differing(&run.settings, base.get(run.task.as_str())?));
    let differences: Vec<Option<String>> = members.iter().map(|&index| difference(&runs[index])).collect();
    let mut by_rule: BTreeMap<&RunOrigin, BTreeSet<&str>> = BTreeMap::new();
    for (&index, text) in members.iter().zip(&differences) {
        by_rule.entry(&runs[index].origin).or_default().extend(text.as_deref().filter(|text| !text.is_empty()));
    }
    let label = |rule: &RunOrigin, own: &Option<String>| {
        let single = by_rule.get(rule).filter(|texts| texts.len() <= 1).and_then(|texts| texts.first());
        match (own, single) {
            (Some(text), _) if text.is_empty() || rule == base_rule => text.clone(),
            (_, Some(text)) => text.to_string(),
            (_, None) => rule_name(rule, base_rule),
        }
    };
    members.iter().zip(&differences).map(|(&index, own)| (index, label(&runs[index].origin, own))).collect()
}

/// Name of a rule whose differences have no single text; its digits where the recipe is the base row's.
fn rule_name(rule: &RunOrigin, base: &RunOrigin) -> String {
    match rule.recipe == base.recipe {
        true => format!("{} changed, {}", rule.recipe, rule.rule.chars().take(4).collect::<String>()),
        false => rule.recipe.clone(),
    }
}

/// The settings of `own` that `base` has otherwise or not at all.
fn differing(own: &Settings, base: &Settings) -> String {
    join(own.iter().filter(|(key, value)| base.get(*key) != Some(value)))
}

/// Everything in a specification but task, method, seed, numeric version and group, flat.
fn settings(spec: &RunSpec) -> Settings {
    let mut settings = Settings::new();
    flatten("", &toml::Value::Table(spec.options.clone()), &mut settings);
    if let Ok(train) = toml::Value::try_from(&spec.train) {
        flatten("", &train, &mut settings);
    }
    if let Some(limit) = spec.data.train_limit {
        settings.insert("train_limit".into(), limit.to_string());
    }
    settings.insert("data".into(), spec.data.sha256.chars().take(8).collect());
    // Weights are the group's; the rest of the directory is configuration and tokenizer.
    settings.insert("configuration".into(), spec.backbone.sha256.chars().take(8).collect());
    settings.insert("tokenizer".into(), spec.backbone.tokenizer.name().into());
    settings
}

/// Everything that is stated of a run that was made elsewhere, but task, method, seed, group and counts, flat.
fn stated(spec: &ExternalSpec) -> Settings {
    let mut settings = Settings::new();
    flatten("", &toml::Value::Table(spec.options.clone()), &mut settings);
    if let Ok(train) = toml::Value::try_from(&spec.train) {
        flatten("", &train, &mut settings);
    }
    settings.insert("data".into(), spec.data.sha256.chars().take(8).collect());
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
        other => {
            into.insert(prefix.into(), grid::text(other));
        }
    }
}

fn join<'a>(settings: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    settings.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, task: &str, started: u64, rule: (&str, &str), settings: &[(&str, &str)]) -> RunSetting {
        RunSetting {
            run: name.into(),
            group: ReportGroup {
                data_source: "glue".into(),
                backbone: "tiny".into(),
                weights_sha256: "ab".into(),
                split: "sora".into(),
            },
            method: "sora".into(),
            task: task.into(),
            started,
            origin: RunOrigin { recipe: rule.0.into(), rule: rule.1.into() },
            label: String::new(),
            is_external: false,
            settings: settings.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            program: Settings::new(),
        }
    }

    const BASE: (&str, &str) = ("table1", "0000");

    #[test]
    fn the_first_started_rule_is_the_base_row_whatever_its_options_on_each_task() {
        let runs = [
            run("b", "cola", 2, BASE, &[("xi", "2")]),
            run("a", "rte", 1, BASE, &[("xi", "1")]),
            run("c", "rte", 3, BASE, &[("xi", "1")]),
        ];
        assert_eq!(labels(&runs), ["", "", ""]);
    }

    #[test]
    fn another_rule_is_labelled_by_what_differs_on_its_task() {
        let runs = [
            run("a", "rte", 2, ("table1", "1111"), &[("r", "4"), ("xi", "1")]),
            run("b", "rte", 1, BASE, &[("r", "8"), ("xi", "1")]),
            run("c", "rte", 3, ("table1", "2222"), &[("lr", "9"), ("r", "4"), ("xi", "5")]),
        ];
        assert_eq!(labels(&runs), ["r=4", "", "lr=9 r=4 xi=5"]);
    }

    #[test]
    fn a_run_that_has_not_begun_stands_in_the_row_it_will_be_of() {
        let later = |name: &str, task: &str| run(name, task, u64::MAX, ("", ""), &[("lr", task)]);
        let begun = run("z", "rte", 7, BASE, &[("lr", "rte")]);
        assert_eq!(labels(&[later("a", "rte"), later("b", "cola"), begun, later("c", "mrpc")]), ["", "", "", ""]);
        assert_eq!(labels(&[later("a", "rte"), later("b", "cola")]), ["", ""], "nothing has begun");
    }

    #[test]
    fn a_run_of_the_base_rule_with_other_options_is_labelled_too() {
        let runs = [run("a", "rte", 1, BASE, &[("r", "8")]), run("b", "rte", 2, BASE, &[("r", "2")])];
        assert_eq!(labels(&runs), ["", "r=2"]);
    }

    #[test]
    fn a_label_from_the_recipe_stands_and_changes_no_other() {
        let mut labelled = run("a", "rte", 1, BASE, &[("r", "4"), ("xi", "1")]);
        labelled.label = "r=4".into();
        let runs = [labelled, run("b", "rte", 2, BASE, &[("r", "8")]), run("c", "rte", 3, BASE, &[("r", "2")])];
        assert_eq!(labels(&runs), ["r=4", "", "r=2"]);
    }

    #[test]
    fn differences_that_change_from_task_to_task_are_one_row_named_by_the_rule() {
        let base = [run("a", "rte", 1, BASE, &[("xi", "1")]), run("b", "cola", 1, BASE, &[("xi", "2")])];
        let tuned = |rule| [run("c", "rte", 2, rule, &[("xi", "3")]), run("d", "cola", 2, rule, &[("xi", "4")])];
        let all = |rule| [base.to_vec(), tuned(rule).to_vec()].concat();
        assert_eq!(labels(&all(("tuned", "1111"))), ["", "", "tuned", "tuned"]);
        assert_eq!(labels(&all(("table1", "12345"))), ["", "", "table1 changed, 1234", "table1 changed, 1234"]);
    }

    #[test]
    fn a_task_the_base_row_lacks_takes_the_single_label_of_its_rule() {
        let rule = ("tuned", "1111");
        let runs = [
            run("a", "rte", 1, BASE, &[("r", "8")]),
            run("b", "rte", 2, rule, &[("r", "4")]),
            run("c", "cola", 3, rule, &[("r", "4")]),
            run("d", "cola", 4, ("other", "2222"), &[("r", "8")]),
        ];
        assert_eq!(labels(&runs), ["", "r=4", "r=4", "other"]);
    }

    #[test]
    fn runs_that_were_made_elsewhere_have_a_base_row_of_their_own() {
        let external = |name, settings| RunSetting { is_external: true, ..run(name, "rte", 3, ("", ""), settings) };
        let runs = [run("a", "rte", 1, BASE, &[("r", "8")]), external("b", &[]), external("c", &[("lr", "0.1")])];
        assert_eq!(labels(&runs), ["", "external", "external lr=0.1"]);
    }

    #[test]
    fn groups_and_methods_have_base_rows_of_their_own() {
        let mut other_method = run("b", "rte", 2, ("x", "1"), &[("r", "4")]);
        other_method.method = "lora".into();
        let mut other_group = run("c", "rte", 3, ("y", "2"), &[("r", "2")]);
        other_group.group.split = "official".into();
        assert_eq!(labels(&[run("a", "rte", 1, BASE, &[("r", "8")]), other_method, other_group]), ["", "", ""]);
    }
}
