//! Notes of Table 1: reasons and evidence of the verdicts, and the texts below the table.

use std::collections::BTreeSet;

use crate::analysis::columns::TaskColumn;
use crate::analysis::comparison::{majority_scores, resolutions};
use crate::analysis::published::is_official;
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::analysis::row_comparison::{PartComparison, RowComparison};
use crate::analysis::verdict::Verdict;
use crate::report::formats::format::join;

/// Most reasons of some tasks only that a footnote spells out.
const MOST_REASONS: usize = 4;

/// A number of seeds in words.
pub fn seeds_in_words(seeds: usize) -> String {
    match seeds {
        0 => "no finished run".into(),
        1 => "1 seed".into(),
        n => format!("{n} seeds"),
    }
}

/// The verdict's word, with the direction of a difference.
pub fn verdict_word(part: &PartComparison) -> String {
    match (part.verdict, part.test) {
        (Verdict::Differs, Some(test)) => {
            format!("differs ({})", if test.difference < 0.0 { "lower" } else { "higher" })
        }
        (verdict, _) => verdict.name().into(),
    }
}

/// Reasons of the numbers that are not comparable, each with its tasks; evidence of the others; settings that are not stated.
pub fn reasons(columns: &[TaskColumn], against: &RowComparison) -> Vec<String> {
    let mut notes = Vec::new();
    let by_reason = by_reason(columns, against);
    if !by_reason.is_empty() {
        notes.push(format!("not comparable: {}", join(by_reason.into_iter(), "; ")));
    }
    let decided = columns.iter().flat_map(|column| {
        let parts = against.cells.get(&column.name).into_iter().flatten();
        parts.filter_map(|part| Some(format!("{} {}", part_title(column, part), evidence(part)?)))
    });
    let average = evidence(&against.average).map(|text| format!("average {text}"));
    let decided = join(decided.chain(average), "; ");
    if !decided.is_empty() {
        notes.push(decided);
        if !against.not_stated.is_empty() {
            let fields = join(against.not_stated.iter().map(ToString::to_string), ", ");
            notes.push(format!("not stated by the publication, and so not compared: {fields}"));
        }
    }
    notes
}

fn by_reason(columns: &[TaskColumn], against: &RowComparison) -> Vec<String> {
    let run: Vec<&TaskColumn> = columns.iter().filter(|c| against.cells.contains_key(&c.name)).collect();
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for column in &run {
        for reason in against.cells.get(&column.name).into_iter().flatten().flat_map(|part| &part.reasons) {
            match reasons.iter_mut().find(|(known, _)| known == reason) {
                Some((_, titles)) if titles.contains(&column.title.as_str()) => {}
                Some((_, titles)) => titles.push(&column.title),
                None => reasons.push((reason, vec![&column.title])),
            }
        }
    }
    let (of_all, of_some): (Vec<_>, Vec<_>) = reasons.into_iter().partition(|(_, titles)| titles.len() == run.len());
    let mut texts: Vec<String> = of_all.into_iter().map(|(reason, _)| reason.to_string()).collect();
    if of_some.len() <= MOST_REASONS {
        texts.extend(of_some.into_iter().map(|(reason, titles)| format!("{reason} ({})", titles.join(", "))));
    } else {
        // A reason begins with the setting's name.
        let names: BTreeSet<&str> = of_some.iter().filter_map(|(reason, _)| reason.split(' ').next()).collect();
        let names = join(names.into_iter().map(str::to_string), ", ");
        texts.push(format!("on some tasks other {names} (each in table1.csv)"));
    }
    texts
}

fn part_title(column: &TaskColumn, part: &PartComparison) -> String {
    match column.parts.len() < 2 {
        true => column.title.clone(),
        false => format!("{} {}", column.title, part.number.map_or("", |n| &n.metric)),
    }
}

/// The numbers behind a verdict; none where the numbers are not comparable.
fn evidence(part: &PartComparison) -> Option<String> {
    let test = part.test.filter(|_| part.verdict != Verdict::NotComparable)?;
    let p = part.p_holm.unwrap_or(test.p);
    let found = format!(
        "{} {:+.2} [{:.2}, {:.2}], p {p:.3}",
        verdict_word(part),
        test.difference,
        test.interval.low,
        test.interval.high
    );
    if part.verdict != Verdict::Undecided {
        return Some(found);
    }
    let seeds = match test.seeds_needed() {
        Some(seeds) => format!("±{:.2} takes {seeds} seeds", test.margin),
        None => format!("±{:.2} cannot be decided against a mean of {} runs", test.margin, test.published_runs),
    };
    Some(format!("{found} ({} seeds could have shown {:.2}; {seeds})", test.seeds, test.detectable))
}

/// Notes below the footnotes.
pub fn notes(frame: &ResultsFrame, group: &GroupResults, seeds: usize) -> Vec<String> {
    let mut notes = vec![
        format!(
            "Points of 100 on the {}: mean ± sample standard deviation over seeds ({}; another number of seeds is given as n). \
             Average: mean over the eight tasks after averaging Acc/F1 and m/mm inside QQP and MNLI.",
            scored_rows(&group.group.split),
            seeds_in_words(seeds)
        ),
        "Published numbers: no mark, read in the paper; † second-hand; ‡ unverified (recalled, in no copy at hand)."
            .into(),
        format!(
            "Verdicts compare two means, so the published one has an error too (s·√(1/n + 1/m), m runs): reproduced, the 90 % interval \
             of the difference lies within ±{} points (in a cell at least two test examples); differs, p < 0.05, in a cell after Holm's \
             correction over the row; undecided, neither; not comparable, another setting or metric, or fewer than two seeds.",
            frame.margin
        ),
    ];
    if !frame.superseded.is_empty() {
        notes.push(format!(
            "Left out, since a run of a later numeric version stands for each: {}.",
            frame.superseded.join(", ")
        ));
    }
    notes.extend(shared_rows_note(&group.group.split));
    notes.extend(resolution_note(group));
    notes.extend(majority_note(group));
    notes.push(parameter_note(group));
    notes
}

/// Rows that a split scores.
pub fn scored_rows(split: &str) -> &'static str {
    if is_official(split) { "development set" } else { "test split" }
}

/// Note on a split under which one set of rows selects and is scored.
pub fn shared_rows_note(split: &str) -> Option<String> {
    is_official(split).then(|| {
        "Selection and score share rows: under this split the whole development set selects the checkpoint and scores it, so the \
         scores are optimistic."
            .into()
    })
}

/// Note on the scores that a row must pass to have learned anything.
pub fn majority_note(group: &GroupResults) -> Option<String> {
    let scores = majority_scores(&group.columns, &group.methods);
    let scores = join(scores.into_iter().map(|(title, points)| format!("{title} {points:.2}")), ", ");
    (!scores.is_empty()).then(|| format!("The most frequent class alone scores: {scores}."))
}

fn resolution_note(group: &GroupResults) -> Option<String> {
    let of_column = |(title, splits): (String, Vec<(u64, f64)>)| {
        let splits = splits.iter().map(|(examples, points)| format!("{points:.2} (n={examples})"));
        format!("{title} {}", join(splits, "/"))
    };
    let columns = join(resolutions(&group.columns, &group.methods).into_iter().map(of_column), ", ");
    (!columns.is_empty()).then(|| format!("Resolution, one test example in points: {columns}."))
}

fn parameter_note(group: &GroupResults) -> String {
    let runs = group.methods.iter().flat_map(|row| &row.runs);
    let heads: BTreeSet<i64> = runs.filter_map(|run| run.row.head).collect();
    let heads = join(heads.iter().map(|n| if *n == 0 { "0 (frozen)".to_string() } else { n.to_string() }), ", ");
    let counts = "Parameters: allocated, trained adapter values; effective, left after pruning (exact); as published, by \
                  the authors' counter; means over the row's finished runs, head not counted";
    if heads.is_empty() { format!("{counts}.") } else { format!("{counts} (it adds {heads}).") }
}
