//! The table of a comparison on one task: score, parameters before and after, time, p.

use crate::analysis::comparison::usual_seeds;
use crate::analysis::frame::typed::Frame;
use crate::analysis::one_task::{OneTaskRow, one_task};
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::error::Result;
use crate::report::table::{Table, TableDoc};
use crate::report::tables::cells::{ABSENT, count_or_absent, fixed, spread};
use crate::report::tables::table1_notes::{majority_note, scored_rows, seeds_in_words, shared_rows_note};

/// Methods on one task, where a group's runs are of one.
pub struct OneTask;

impl Table for OneTask {
    fn name(&self) -> &'static str {
        "one_task"
    }

    fn title(&self) -> &'static str {
        "One task"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        frame.groups.iter().filter_map(|group| document(self.title(), group).transpose()).collect()
    }
}

fn document(title: &str, group: &GroupResults) -> Result<Option<TableDoc>> {
    let Some((column, rows)) = one_task(group) else { return Ok(None) };
    let score = format!("{} {}", column.title, metric_title(&rows[0].metric));
    let header = ["Method", &score, "Parameters", "Left", "Kept", "s/epoch", "p"];
    let seeds = usual_seeds(&group.methods);
    Ok(Some(TableDoc {
        title: format!("{title}, {}: {}, {}", column.title, group.group.title(), seeds_in_words(seeds)),
        header: header.map(str::to_string).to_vec(),
        rows: rows.iter().map(|row| table_row(row, seeds)).collect(),
        notes: notes(group, &rows),
        data: Frame::from_rows(&rows)?.into_data(),
    }))
}

fn table_row(row: &OneTaskRow, usual: usize) -> Vec<String> {
    let seeds = if row.seeds == usual as u64 { String::new() } else { format!(" (n={})", row.seeds) };
    let cells = vec![
        row.title.clone(),
        if row.seeds == 0 { ABSENT.into() } else { spread(row.mean, row.std) + &seeds },
        count_or_absent(row.allocated),
        count_or_absent(row.effective),
        row.kept.map_or(ABSENT.into(), |kept| format!("{kept:.0} %")),
        fixed(row.epoch_seconds, 2),
        fixed(row.p_t, 3),
    ];
    cells
}

fn notes(group: &GroupResults, rows: &[OneTaskRow]) -> Vec<String> {
    let reference = rows.iter().map(|row| row.reference.as_str()).find(|reference| !reference.is_empty());
    let against = reference.map_or(String::new(), |reference| {
        format!(" p: two-sided paired t test against {reference} on the same seeds, with three or more of them.")
    });
    let how = format!(
        "Points of 100 on the {}, mean ± sample standard deviation over seeds (another number of them is given as n). \
         Parameters: trained values of the adapter without the head, and those left after pruning; mean over seeds. Seconds an epoch: \
         training alone, median over runs of one device.{against}",
        scored_rows(&group.group.split)
    );
    std::iter::once(how).chain(shared_rows_note(&group.group.split)).chain(majority_note(group)).collect()
}

/// `MCC` for Matthews' correlation; other metrics as they are.
fn metric_title(metric: &str) -> &str {
    if metric == "matthews" { "MCC" } else { metric }
}
