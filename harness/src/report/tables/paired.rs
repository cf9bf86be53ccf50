//! Every row against the LoRA row of the same budget, on the same tasks and seeds.

use crate::analysis::columns::TaskColumn;
use crate::analysis::frame::typed::Frame;
use crate::analysis::paired::{FEWEST, PairedRow, paired, smallest_p};
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::error::Result;
use crate::report::table::{Table, TableDoc};
use crate::report::tables::cells::{ABSENT, fixed};

/// Paired comparison with LoRA.
pub struct Paired;

impl Table for Paired {
    fn name(&self) -> &'static str {
        "paired"
    }

    fn title(&self) -> &'static str {
        "Paired comparison with LoRA"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        frame.groups.iter().filter_map(|group| document(self.title(), group).transpose()).collect()
    }
}

fn document(title: &str, group: &GroupResults) -> Result<Option<TableDoc>> {
    let rows = paired(group);
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(TableDoc {
        title: format!("{title}: {}", group.group.title()),
        header: header(),
        rows: rows.iter().map(|row| table_row(row, &group.columns)).collect(),
        notes: notes(&rows),
        data: Frame::from_rows(&rows)?.into_data(),
    }))
}

fn header() -> Vec<String> {
    let names = [
        "Row",
        "Compared with",
        "Task",
        "Pairs",
        "Difference",
        "95 % interval",
        "p (paired t)",
        "p (Holm)",
        "p (sign flip)",
        "Over examples: 95 %",
        "p (McNemar)",
    ];
    names.map(str::to_string).to_vec()
}

fn table_row(row: &PairedRow, columns: &[TaskColumn]) -> Vec<String> {
    let title = columns.iter().find(|c| c.name == row.task).map(|c| c.title.clone());
    let task = title.unwrap_or_else(|| "all tasks".into());
    let std = row.std.map_or(String::new(), |s| format!(" ± {s:.2}"));
    let p = |value: Option<f64>| fixed(value, 3);
    let interval = |low: Option<f64>, high: Option<f64>| match (low, high) {
        (Some(low), Some(high)) => format!("{low:+.2} to {high:+.2}"),
        _ => ABSENT.to_string(),
    };
    let difference = row.difference.map_or("no common seed".to_string(), |d| format!("{d:+.2}{std}"));
    let cells = vec![
        row.title.clone(),
        row.reference.clone(),
        task,
        row.pairs.to_string(),
        difference,
        interval(row.interval_low, row.interval_high),
        p(row.p_t),
        p(row.p_holm),
        p(row.p_sign_flip),
        interval(row.examples_low, row.examples_high),
        row.mcnemar_seed.map_or(ABSENT.into(), |seed| format!("{} (seed {seed})", p(row.p_mcnemar))),
    ];
    cells
}

fn notes(rows: &[PairedRow]) -> Vec<String> {
    let largest = rows.iter().map(|row| row.pairs).max().unwrap_or(0);
    let mut notes = vec![
        "Difference of the task's score in points of 100, row - LoRA on the same seed: mean ± sample standard deviation over seeds. A \
         row is compared with the LoRA row that is changed in the same way, else with the one whose allocated parameters are nearest; \
         LoRA rows with the first one."
            .into(),
    ];
    if largest < FEWEST as u64 {
        notes.push(format!(
            "At most {largest} seeds are paired: with fewer than {FEWEST} no test over seeds is possible."
        ));
    } else {
        notes.push(format!(
            "Over seeds: paired t test, p (Holm) over the tasks of one comparison; sign flip cannot go below {:.3} for {largest} seeds of \
             one task. All tasks: means of each seed over the tasks; signs are flipped by seed within each task. A dash: differences \
             without spread have no t test.",
            smallest_p(largest as usize)
        ));
    }
    notes.push(
        "Over examples, another thing than over seeds: BCa bootstrap interval (10,000 draws of the test rows) of the mean difference of \
         the task's first metric, and McNemar's exact test on the predictions of one seed, for accuracies."
            .into(),
    );
    notes
}
