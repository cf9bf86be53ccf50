//! An audit as tables for a terminal, and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::analysis::audit::Audit;
use crate::analysis::audit::averages::{AverageRow, DOES_NOT_FOLLOW};
use crate::analysis::audit::repeats::{FEWEST, RepeatRow};
use crate::analysis::audit::values::{IMPOSSIBLE, NOT_TESTABLE, SingleRuns, ValueRow};
use crate::analysis::frame::typed::{Frame, internal};
use crate::error::Result;
use crate::report::table::TableDoc;

/// The three tables of an audit of `name`; rows that show nothing are left out of the first.
///
/// # Errors
/// A bug only.
pub fn documents(name: &str, audit: &Audit) -> Result<Vec<TableDoc>> {
    Ok(vec![values(name, audit)?, averages(name, audit)?, repeats(name, audit)?])
}

/// JSON: every number, average and repetition, and what was assumed.
///
/// # Errors
/// A bug only.
pub fn json(name: &str, audit: &Audit) -> Result<String> {
    #[derive(Serialize)]
    struct Document<'a> {
        table: &'a str,
        assumed: Vec<String>,
        single_runs: SingleRuns,
        values: &'a [ValueRow],
        averages: &'a [AverageRow],
        repeats: &'a [RepeatRow],
    }
    let Audit { values, averages, repeats, .. } = audit;
    let single_runs = SingleRuns::of(values);
    let document = Document { table: name, assumed: assumed(audit), single_runs, values, averages, repeats };
    serde_json::to_string_pretty(&document).map_err(internal)
}

fn values(name: &str, audit: &Audit) -> Result<TableDoc> {
    let found: Vec<&ValueRow> = audit.values.iter().filter(|row| row.word == IMPOSSIBLE).collect();
    let names = ["Row", "Task", "Metric", "Printed", "Runs × examples", "Nearest means", "Printed by"];
    let row = |row: &&ValueRow| {
        let counts = format!("{} × {}", row.runs, row.rows.map_or(String::new(), |rows| rows.to_string()));
        let texts = [&row.label, &row.task, &row.metric, &row.value, &counts, &row.nearest, &row.fits];
        texts.map(String::clone).to_vec()
    };
    let mut notes = vec![count(found.len(), audit.values.len() - not_testable(audit), "testable values are no mean")];
    notes.extend(assumed(audit));
    notes.extend(
        audit
            .scored_rows()
            .iter()
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(split, rows)| format!("Scored examples under split {split}: {}.", rows.join(", "))),
    );
    notes.extend(untested(audit));
    notes.extend(single_runs(&audit.values));
    Ok(TableDoc {
        title: format!("Values that no mean can print: {name}"),
        header: names.map(str::to_string).to_vec(),
        rows: found.iter().map(row).collect(),
        notes,
        data: Frame::from_rows(&audit.values)?.into_data(),
    })
}

/// `2 of 8 testable values are no mean.`
fn count(found: usize, of: usize, text: &str) -> String {
    format!("{found} of {of} {text}.")
}

fn not_testable(audit: &Audit) -> usize {
    audit.values.iter().filter(|row| row.word == NOT_TESTABLE).count()
}

/// The assumptions in words, a sentence for each.
fn assumed(audit: &Audit) -> Vec<String> {
    let mut labels: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (row, assumed) in &audit.rows {
        let runs = format!("{} runs ({})", assumed.runs, assumed.runs_from.text());
        let split = format!("split {} ({})", assumed.split.name(), assumed.split_from.text());
        let same = labels.entry(format!("{runs}, {split}")).or_default();
        if !same.contains(&row.label.as_str()) {
            same.push(&row.label);
        }
    }
    let is_single = labels.len() == 1;
    let text = |(text, rows): (String, Vec<&str>)| match is_single {
        true => format!("Assumed: {text}."),
        false => format!("Assumed for {}: {text}.", rows.join(", ")),
    };
    labels.into_iter().map(text).collect()
}

/// Reasons for the values that were not tested, in one sentence.
fn untested(audit: &Audit) -> Option<String> {
    let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for row in audit.values.iter().filter(|row| row.word == NOT_TESTABLE) {
        let (names, name) = (reasons.entry(&row.reason).or_default(), format!("{} {}", row.task, row.metric));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let texts: Vec<String> = reasons.iter().map(|(reason, names)| format!("{reason} ({})", names.join(", "))).collect();
    (!texts.is_empty()).then(|| format!("Not testable: {}.", texts.join("; ")))
}

/// How many numbers a single run prints, beside the number that chance gives.
fn single_runs(values: &[ValueRow]) -> Option<String> {
    let SingleRuns { possible, single, expected } = SingleRuns::of(values);
    (single > 0).then(|| {
        format!(
            "{single} of {possible} possible values that are assumed to be means of several runs are values of a single run too; of such means about \
             {expected:.0} would be."
        )
    })
}

fn averages(name: &str, audit: &Audit) -> Result<TableDoc> {
    let names = ["Row", "Printed", "Computed", "Difference", "Tasks", "Follows", "Formula"];
    let row = |row: &AverageRow| {
        vec![
            row.label.clone(),
            row.printed.clone(),
            format!("{:.3}", row.computed),
            format!("{:+.3}", row.difference),
            row.tasks.to_string(),
            if row.word == DOES_NOT_FOLLOW { "no" } else { "yes" }.into(),
            row.formula.clone(),
        ]
    };
    let wrong = audit.averages.iter().filter(|row| row.word == DOES_NOT_FOLLOW).count();
    Ok(TableDoc {
        title: format!("Averages: {name}"),
        header: names.map(str::to_string).to_vec(),
        rows: audit.averages.iter().map(row).collect(),
        notes: vec![
            count(wrong, audit.averages.len(), "averages do not follow from their cells"),
            "The first formula whose result rounding explains (half a last digit of the cells and of the average), in the order: each task the \
             mean of its numbers (GLUE); the first of each; the last of each; MNLI's mean and the first of others; QQP's; all numbers. Where \
             none does, the nearest."
                .into(),
        ],
        data: Frame::from_rows(&audit.averages)?.into_data(),
    })
}

fn repeats(name: &str, audit: &Audit) -> Result<TableDoc> {
    let names = ["Row", "Has the digits of", "In", "Equal tasks", "Which", "Setting"];
    let row = |row: &RepeatRow| {
        vec![
            row.label.clone(),
            row.other_label.clone(),
            row.other_table.clone(),
            format!("{} of {}", row.equal, row.common),
            row.tasks.clone(),
            if row.differing.is_empty() { row.word.clone() } else { row.differing.clone() },
        ]
    };
    Ok(TableDoc {
        title: format!("Repeated digits: {name}"),
        header: names.map(str::to_string).to_vec(),
        rows: audit.repeats.iter().map(row).collect(),
        notes: vec![format!(
            "Rows with the same digits in {FEWEST} tasks or more, in this table or in results/published. Same as far as stated: copied or cited, \
             as the rows do not state two backbones, methods or splits. Anything else: digits that stand under two settings."
        )],
        data: Frame::from_rows(&audit.repeats)?.into_data(),
    })
}
