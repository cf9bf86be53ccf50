//! Known backbones, from `backbones.toml` beside this crate's sources: a backbone that was trained on a task says little
//! about a method on that task.

use std::sync::LazyLock;

use serde::Deserialize;

const BACKBONES: &str = include_str!("../backbones.toml");

/// A backbone whose weights are known by their sums.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backbone {
    /// Name in tables.
    pub name: String,
    /// Repository on the Hub.
    pub repository: String,
    /// SHA-256 of each file that holds its weights, in hexadecimal.
    pub weights: Vec<String>,
    /// Licence of the weights.
    pub licence: String,
    /// Tasks whose labels it was trained on.
    pub seen: Vec<String>,
    /// Where it comes from and what it was trained on.
    pub remark: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    backbone: Vec<Backbone>,
}

static KNOWN: LazyLock<Vec<Backbone>> = LazyLock::new(|| {
    let file: Result<File, _> = toml::from_str(BACKBONES);
    file.map(|file| file.backbone).unwrap_or_default()
});

/// Every known backbone.
pub fn all() -> &'static [Backbone] {
    &KNOWN
}

/// The backbone with these weights.
pub fn find(weights_sha256: &str) -> Option<&'static Backbone> {
    all().iter().find(|backbone| backbone.weights.iter().any(|sum| sum == weights_sha256))
}

/// The known backbone of this name, for data that name one.
pub fn named(name: &str) -> Option<&'static Backbone> {
    all().iter().find(|backbone| backbone.name == name)
}

/// The known backbone of a repository on the Hub.
pub fn of_repository(repository: &str) -> Option<&'static Backbone> {
    all().iter().find(|backbone| backbone.repository == repository)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::TASKS;

    #[test]
    fn every_sum_is_one_and_every_task_is_known() {
        assert!(all().len() >= 2, "the file does not parse");
        for backbone in all() {
            assert!(!backbone.weights.is_empty(), "{}", backbone.name);
            for sum in &backbone.weights {
                assert_eq!(hex::decode(sum).unwrap().len(), 32, "{}", backbone.name);
                assert_eq!(find(sum), Some(backbone), "two backbones have the weights {sum}");
            }
            for task in &backbone.seen {
                assert!(TASKS.iter().any(|known| known.name == task), "{}: {task}", backbone.name);
            }
        }
    }

    #[test]
    fn minilm_says_what_it_has_seen() {
        let minilm = named("all-MiniLM-L6-v2").unwrap();
        assert_eq!(minilm.seen, ["mnli", "qqp", "qnli"]);
        assert!(minilm.remark.contains("MultiNLI"), "{}", minilm.remark);
    }
}
