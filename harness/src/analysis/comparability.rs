//! Whether one of our runs was made in the setting of a published number.

use datasets::backbones::{self, Backbone};

use crate::analysis::frame::rows::RunRow;
use crate::analysis::published::{PublishedRow, Setting, TrainSetting, is_official};

/// Settings that keep a run from being compared with a published number.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Mismatches {
    /// Settings the publication states and the run has otherwise; any of them blocks the comparison.
    pub differing: Vec<String>,
    /// Settings the publication does not state; they do not block it and are listed with it.
    pub not_stated: Vec<&'static str>,
}

/// Tolerance of phases given as shares of a run, as a share of its steps: published steps are rounded.
const PHASE_ROUNDING: f64 = 0.01;

/// Compares the setting of a run on its task with a published row's.
pub fn mismatches(ours: &RunRow, published: Option<&PublishedRow>) -> Mismatches {
    let none = |reason: &str| Mismatches { differing: vec![reason.into()], ..Mismatches::default() };
    let Some(published) = published else { return none("no published row") };
    let Some(setting) = &published.setting else { return none("the published row's setting is not known") };
    let mut found = Mismatches::default();
    if trained_on(ours).is_some() {
        found.differing.push("the backbone was trained on this task".into());
    }
    found.differing.extend(backbone(ours, setting));
    found.differing.extend(data(ours, setting));
    found.differing.extend(unlike_options(ours, &setting.options));
    found.differing.extend(unstated_options(&ours.options, &setting.options));
    let fields = [
        ("precision", ours.precision.as_str(), setting.precision.as_str()),
        ("train_head", ours.train_head.as_str(), setting.train_head.as_str()),
        ("tokenizer", ours.tokenizer.as_str(), setting.tokenizer.as_str()),
    ];
    for (name, own, stated) in fields {
        if stated.is_empty() {
            found.not_stated.push(name);
        } else if own.is_empty() {
            found.differing.push(not_known(name));
        } else if own != stated {
            found.differing.push(format!("{name} {own} instead of {stated}"));
        }
    }
    let train = published.train.iter().find(|train| train.task == ours.task);
    train_settings(ours, train, &mut found);
    found
}

/// The backbone of a run on a task whose labels it has seen: a score there says little.
pub fn trained_on(ours: &RunRow) -> Option<&'static Backbone> {
    backbones::find(&ours.weights_sha256).filter(|known| known.seen.contains(&ours.task))
}

fn backbone(ours: &RunRow, setting: &Setting) -> Option<String> {
    let Some(published) = backbones::named(&setting.backbone) else {
        return Some(format!("the sha256 of {}'s weights is not known", setting.backbone));
    };
    if ours.weights_sha256.is_empty() {
        return Some(not_known("backbone"));
    }
    let same = published.weights.contains(&ours.weights_sha256);
    (!same).then(|| format!("backbone {} instead of {}", ours.backbone, published.name))
}

fn data(ours: &RunRow, setting: &Setting) -> Vec<String> {
    let mut found = Vec::new();
    if ours.data_source != setting.data_source {
        let data = match ours.data_source.as_str() {
            "micro" => "synthetic data",
            "glue-unlocked" => "data files that are not the locked ones",
            other => other,
        };
        found.push(format!("{data} instead of GLUE"));
    }
    if !setting.caveat.is_empty() {
        found.push(setting.caveat.clone());
    } else if ours.split != setting.split && !(is_official(&ours.split) && is_official(&setting.split)) {
        found.push(format!("split {} instead of {}", ours.split, setting.split));
    }
    found.extend(ours.train_limit.map(|limit| format!("only {limit} training rows")));
    found
}

fn train_settings(ours: &RunRow, train: Option<&TrainSetting>, found: &mut Mismatches) {
    let numbers = [
        ("epochs", ours.epochs.map(|n| n as f64), train.and_then(|train| train.epochs)),
        ("batch_size", ours.batch_size.map(|n| n as f64), train.and_then(|train| train.batch_size)),
        ("lr", ours.lr, train.and_then(|train| train.lr)),
    ];
    for (name, own, stated) in numbers {
        match (own, stated) {
            (Some(own), Some(stated)) if !is_equal(own, stated) => {
                found.differing.push(format!("{name} {own} instead of {stated}"));
            }
            (None, Some(_)) => found.differing.push(not_known(name)),
            (Some(_), Some(_)) => {}
            (_, None) => found.not_stated.push(name),
        }
    }
    found.differing.extend(train.into_iter().flat_map(|train| unlike_options(ours, &train.options)));
}

/// Reason of a setting that is not known of a run that was made elsewhere.
fn not_known(name: &str) -> String {
    format!("{name} is not stated")
}

/// The published options (`key=value …`) that the run has otherwise.
fn unlike_options(ours: &RunRow, stated: &str) -> Vec<String> {
    let unlike = |pair: &str| {
        let (key, stated) = pair.split_once('=')?;
        let own = option(&ours.options, key);
        let same = own.is_some_and(|own| is_same(key, own, stated, ours.steps));
        (!same).then(|| format!("{key} {} instead of {stated}", own.unwrap_or("not set")))
    };
    stated.split_whitespace().filter_map(unlike).collect()
}

/// Options that a run leaves out unless they are given, and their values where a publication states none: LoRA's 1.33M is every
/// linear, and no released script sets the others.
const LEFT_OUT: [(&str, &str); 3] = [("target_modules", "all-linear"), ("lora_dropout", "0"), ("bias", "none")];

/// Options that the run has and the publication does not state.
fn unstated_options(ours: &str, stated: &str) -> Vec<String> {
    let unlike = |(key, published): &(&str, &str)| {
        let own = option(ours, key).filter(|_| option(stated, key).is_none())?;
        Some(format!("{key} {own} instead of {published}"))
    };
    LEFT_OUT.iter().filter_map(unlike).collect()
}

/// Value of an option in `key=value …`.
pub fn option<'a>(options: &'a str, key: &str) -> Option<&'a str> {
    options
        .split_whitespace()
        .find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key))
        .map(|(_, value)| value)
}

/// Values are compared as numbers where both are; a phase given as a share is as many steps of the run.
fn is_same(key: &str, own: &str, stated: &str, steps: Option<u64>) -> bool {
    let (Ok(number), Ok(wanted)) = (own.parse::<f64>(), stated.parse::<f64>()) else { return own == stated };
    let is_share = ["tinit", "tfinal"].contains(&key) && own.contains('.');
    match steps.filter(|_| is_share) {
        Some(steps) => (number * steps as f64 - wanted).abs() <= PHASE_ROUNDING * steps as f64,
        None => is_equal(number, wanted),
    }
}

fn is_equal(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_compared_as_numbers_and_phases_as_steps() {
        assert!(is_same("alpha", "16.0", "16", None) && is_same("xi", "0.0003", "3e-4", None));
        assert!(!is_same("r", "8", "4", None) && is_same("final_phase", "released", "released", None));
        assert!(is_same("tinit", "0.12", "800", Some(6700)) && !is_same("tinit", "0.2", "800", Some(6700)));
        assert_eq!(option("r=8 alpha=16.0", "alpha"), Some("16.0"));
        assert_eq!(option("r=8 alpha=16.0", "lr"), None);
    }

    #[test]
    fn an_option_that_no_publication_states_tells_a_run_apart() {
        assert!(unstated_options("alpha=16.0 r=8", "r=8").is_empty());
        let released = "alpha=16.0 r=8 target_modules=query,value";
        assert_eq!(unstated_options(released, "r=8"), ["target_modules query,value instead of all-linear"]);
        assert!(unstated_options(released, "r=8 target_modules=query,value").is_empty());
    }
}
