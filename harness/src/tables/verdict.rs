//! Whether a number of ours agrees with the published one.
//!
//! The rule, for a comparable setting (same backbone, data, split, options and no row limit):
//! 1. the 95 % t interval over our seeds holds the published value → *reproduced*;
//! 2. it does not, but our mean is within one example of the split (100/n points) → *within noise*;
//! 3. otherwise → *differs*.
//!
//! One seed has no interval: rule 2 can still hold, else nothing can be said → *not comparable*. A row's verdict is the
//! worst of its cells. Any other setting → *not comparable*.

use crate::frame::ResultRow;
use crate::published::{Row, has_options, is_official};
use crate::stats::{mean, t_interval};

/// Outcome of a comparison, the better first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Inside the interval over seeds.
    Reproduced,
    /// Outside, by no more than one example.
    WithinNoise,
    /// Outside by more.
    Differs,
    /// Another setting, or too few seeds.
    NotComparable,
}

impl Verdict {
    /// As printed.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Reproduced => "reproduced",
            Verdict::WithinNoise => "within noise",
            Verdict::Differs => "differs",
            Verdict::NotComparable => "not comparable",
        }
    }
}

/// Compares values of one number over the seeds with the published one, all in points of 100.
pub fn compare(ours: &[f64], published: f64, noise_floor: f64) -> Verdict {
    let Some(centre) = mean(ours) else { return Verdict::NotComparable };
    let interval = t_interval(ours, 0.95);
    if interval.is_some_and(|interval| interval.contains(published)) {
        Verdict::Reproduced
    } else if (centre - published).abs() <= noise_floor {
        Verdict::WithinNoise
    } else if interval.is_some() {
        Verdict::Differs
    } else {
        Verdict::NotComparable
    }
}

/// What makes `ours` incomparable with `published`; empty when the settings agree.
pub fn obstacles(ours: &ResultRow, published: Option<&Row>) -> Vec<String> {
    let Some(published) = published else { return vec!["no published row".into()] };
    let Some(setting) = &published.setting else { return vec!["the published row's setting is not known".into()] };
    let mut obstacles = Vec::new();
    if plain(&ours.backbone) != plain(&setting.backbone) {
        obstacles.push(format!("backbone {} instead of {}", ours.backbone, setting.backbone));
    }
    if ours.data_source != setting.data_source {
        let data = if ours.data_source == "micro" { "synthetic data" } else { &ours.data_source };
        obstacles.push(format!("{data} instead of GLUE"));
    }
    if !setting.caveat.is_empty() {
        obstacles.push(setting.caveat.clone());
    } else if ours.split != setting.split && !(is_official(&ours.split) && is_official(&setting.split)) {
        obstacles.push(format!("split {} instead of {}", ours.split, setting.split));
    }
    if let Some(limit) = ours.train_limit {
        obstacles.push(format!("only {limit} training rows"));
    }
    if !has_options(&ours.options, &setting.options) {
        obstacles.push(format!("other options than {}", setting.options));
    }
    obstacles
}

/// Lower-case letters and digits of the last path part: `microsoft/deberta-v3-base` → `debertav3base`.
fn plain(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    last.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}
