//! Origin of a report: command, date, programs, machines, settings, states of the runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::analysis::frame::rows::RunRow;
use crate::analysis::results::ResultsFrame;
use crate::analysis::summary::bare_title;
use crate::store::unix_time;

/// Options that choose between paper and released code (docs/divergences.md).
const SWITCHES: [&str; 2] = ["variant", "final_phase"];

/// Names and texts, in the order they are shown.
pub fn made(frame: &ResultsFrame) -> Vec<(&'static str, String)> {
    let distinct = |of: fn(&RunRow) -> String| {
        let values: BTreeSet<String> = frame.runs.iter().map(|run| of(&run.row)).collect();
        values.into_iter().filter(|value| !value.is_empty()).collect::<Vec<_>>().join("; ")
    };
    let facts = [
        ("Command", command()),
        ("Written", date(now())),
        ("By", format!("rankbench {}, commit {}", env!("CARGO_PKG_VERSION"), env!("RANKBENCH_COMMIT"))),
        ("Recipes", distinct(|run| run.recipe.clone())),
        ("Commits of the runs", distinct(|run| run.commit.clone())),
        ("Machines", distinct(|run| with(&run.device, &run.driver))),
        ("libtorch", distinct(|run| run.libtorch.clone())),
        ("Numeric versions", distinct(|run| run.numerics.map(|n| n.to_string()).unwrap_or_default())),
        ("Backbones", distinct(|run| with(&run.backbone, &run.weights_sha256.chars().take(12).collect::<String>()))),
        ("Data", distinct(|run| format!("{}, split {}", run.data_source, run.split))),
        ("Divergences in force", switches(frame)),
        ("Runs", states(frame)),
        ("Made elsewhere", elsewhere(frame)),
        ("Left out", frame.superseded.join(", ")),
    ];
    facts.into_iter().filter(|(_, text)| !text.is_empty()).collect()
}

fn with(text: &str, detail: &str) -> String {
    if detail.is_empty() { text.into() } else { format!("{text} ({detail})") }
}

/// The settings in which paper and released code differ, as the runs had them.
fn switches(frame: &ResultsFrame) -> String {
    let mut found = BTreeSet::new();
    for run in frame.runs.iter().map(|run| &run.row) {
        found.insert(format!("split {}", run.split));
        if !run.train_head.is_empty() {
            found.insert(format!("train_head {}", run.train_head));
        }
        for (key, value) in run.options.split(' ').filter_map(|pair| pair.split_once('=')) {
            if SWITCHES.contains(&key) {
                found.insert(format!("{} {key} {value}", bare_title(run)));
            }
        }
    }
    found.into_iter().collect::<Vec<_>>().join("; ")
}

fn states(frame: &ResultsFrame) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for run in &frame.runs {
        *counts.entry(run.row.status.as_str()).or_default() += 1;
    }
    counts.into_iter().map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
}

/// Methods whose runs were made by other programs.
fn elsewhere(frame: &ResultsFrame) -> String {
    let external = frame.runs.iter().filter(|run| run.is_external());
    external.map(|run| bare_title(&run.row)).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join("; ")
}

/// The command line of this process, as a shell takes it.
fn command() -> String {
    let quoted = |word: String| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_=./,:@+".contains(c);
        if !word.is_empty() && word.chars().all(is_plain) { word } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_default();
    let name = Path::new(&program).file_name().map_or(program.clone(), |name| name.to_string_lossy().into_owned());
    std::iter::once(name).chain(words.map(quoted)).collect::<Vec<_>>().join(" ")
}

/// Seconds since 1970; `SOURCE_DATE_EPOCH` where it is set, so that a report can be made again to the byte.
fn now() -> u64 {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(unix_time::now)
}

/// `2026-11-29 08:02 UTC`.
fn date(seconds: u64) -> String {
    // Days to a date of the Gregorian calendar, in years that begin in March.
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3_600, rest % 3_600 / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_python() {
        // [time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(t)) for t in (0, 951782400, 1709251199, 1796025600)]
        let dates = [0, 951_782_400, 1_709_251_199, 1_796_025_600].map(date);
        let expected = ["1970-01-01 00:00 UTC", "2000-02-29 00:00 UTC", "2024-02-29 23:59 UTC", "2026-11-30 08:00 UTC"];
        assert_eq!(dates, expected);
    }
}
