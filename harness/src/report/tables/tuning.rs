//! Equal tuning in sight: the chosen setting of each method and task, best of n, with what the search cost.

use std::collections::BTreeSet;

use crate::analysis::frame::typed::Frame;
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::analysis::stats::{mean, sample_std};
use crate::analysis::summary::method_title;
use crate::analysis::tuning::{Search, searches, tuned_rows, tuning_rows};
use crate::error::Result;
use crate::report::table::{Table, TableDoc};
use crate::report::tables::cells::{ABSENT, fixed, spread};

/// Tuning.
pub struct Tuning;

impl Table for Tuning {
    fn name(&self) -> &'static str {
        "tuning"
    }

    fn title(&self) -> &'static str {
        "Equal tuning"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        frame.groups.iter().filter_map(|group| document(self.title(), group).transpose()).collect()
    }
}

fn document(title: &str, group: &GroupResults) -> Result<Option<TableDoc>> {
    let searches = searches(group);
    if searches.is_empty() {
        return Ok(None);
    }
    let names = ["Method", "Task", "Best of n", "Chosen", "Validation", "Test, all seeds", "Seeds", "Search"];
    Ok(Some(TableDoc {
        title: format!("{title}: {}", group.group.title()),
        header: names.map(str::to_string).to_vec(),
        rows: searches.iter().map(|search| table_row(search, group)).collect(),
        notes: notes(&searches),
        data: Frame::from_rows(&tuning_rows(group, &searches))?.into_data(),
    }))
}

fn table_row(search: &Search, group: &GroupResults) -> Vec<String> {
    let column = group.columns.iter().find(|column| column.name == search.task);
    let best = search.best();
    let scores: Vec<f64> = best.iter().flat_map(|best| &best.scores).map(|score| score.score()).collect();
    let cells = vec![
        method_title(search.method),
        column.map_or(search.task.to_string(), |column| column.title.clone()),
        format!("n = {}", search.trials.len()),
        best.map_or(ABSENT.into(), |best| best.label.to_string()),
        fixed(best.and_then(|best| best.validation), 2),
        spread(mean(&scores), sample_std(&scores)),
        scores.len().to_string(),
        format!("{} runs, {:.0} s", search.runs, search.seconds),
    ];
    cells
}

fn notes(searches: &[Search]) -> Vec<String> {
    let mut notes = vec![
        "Every method has the same number of trials on a task. The trial with the best mean validation score over the trial seeds is \
         chosen; test scores play no part in it. Search: the trials' runs and their wall time."
            .to_string(),
    ];
    let counts: BTreeSet<usize> = searches.iter().map(|search| search.trials.len()).collect();
    if counts.len() > 1 {
        notes.push(format!("⚠ The searches have different numbers of trials ({counts:?}): they are not equal."));
    }
    let tuned: Vec<String> = tuned_rows(searches)
        .iter()
        .filter_map(|row| {
            let scores: Vec<f64> = row.cells.values().filter_map(|cell| cell.score()).collect();
            Some(format!("{} {:.2}", row.title, mean(&scores)?))
        })
        .collect();
    notes.push(format!("Mean test score over the tasks of each method: {}.", tuned.join(", ")));
    notes
}
