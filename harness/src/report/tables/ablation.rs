//! Differences that each switch of docs/divergences.md makes when it is flipped alone.

use crate::analysis::ablation::{AblationRow, ablation};
use crate::analysis::frame::typed::Frame;
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::analysis::summary::method_title;
use crate::error::Result;
use crate::report::table::{Table, TableDoc};
use crate::report::tables::cells::{ABSENT, count_or_absent, fixed};

/// Ablation.
pub struct Ablation;

impl Table for Ablation {
    fn name(&self) -> &'static str {
        "ablation"
    }

    fn title(&self) -> &'static str {
        "Ablation"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        frame.groups.iter().filter_map(|group| document(self.title(), group).transpose()).collect()
    }
}

fn document(title: &str, group: &GroupResults) -> Result<Option<TableDoc>> {
    let rows = ablation(group);
    if rows.is_empty() {
        return Ok(None);
    }
    let names =
        ["Method", "Flipped", "Task", "Pairs", "Difference", "95 % interval", "p", "p (Holm)", "Values left", "Time"];
    Ok(Some(TableDoc {
        title: format!("{title}: {}", group.group.title()),
        header: names.map(str::to_string).to_vec(),
        rows: rows.iter().map(|row| table_row(row, group)).collect(),
        notes: vec![
            "Each switch of docs/divergences.md flipped alone. Difference of the score in points of 100, flipped less base on the same \
             seed: mean ± sample standard deviation; paired t test over seeds, with three pairs or more; p (Holm) over the flips of a \
             method on a task. Values left after pruning: base → flipped. Time: seconds of an epoch, flipped by base, as the runs saw \
             it themselves."
                .into(),
        ],
        data: Frame::from_rows(&rows)?.into_data(),
    }))
}

fn table_row(row: &AblationRow, group: &GroupResults) -> Vec<String> {
    let column = group.columns.iter().find(|column| column.name == row.task);
    let std = row.std.map_or(String::new(), |std| format!(" ± {std:.2}"));
    let interval = row.interval_low.zip(row.interval_high).map(|(low, high)| format!("{low:+.2} to {high:+.2}"));
    let cells = vec![
        method_title(&row.method),
        format!("{} {}", row.divergence, row.flip),
        column.map_or("all tasks".into(), |column| column.title.clone()),
        row.pairs.to_string(),
        row.difference.map_or(ABSENT.into(), |difference| format!("{difference:+.2}{std}")),
        interval.unwrap_or_else(|| ABSENT.into()),
        fixed(row.p_t, 3),
        fixed(row.p_holm, 3),
        format!("{} → {}", count_or_absent(row.effective_base), count_or_absent(row.effective)),
        row.time_ratio.map_or(ABSENT.into(), |ratio| format!("×{ratio:.2}")),
    ];
    cells
}
