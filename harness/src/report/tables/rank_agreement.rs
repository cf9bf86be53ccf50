//! Final ranks task by task in numbers, and whether the seeds agree on them.

use crate::analysis::frame::typed::Frame;
use crate::analysis::rank_agreement::{RankAgreementRow, agreement_rows, task_ranks};
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::error::Result;
use crate::report::table::{Table, TableDoc};
use crate::report::tables::cells::ABSENT;

/// Agreement of final ranks between seeds.
pub struct RankAgreement;

impl Table for RankAgreement {
    fn name(&self) -> &'static str {
        "rank_agreement"
    }

    fn title(&self) -> &'static str {
        "Final ranks and their agreement between seeds"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        frame.groups.iter().filter_map(|group| document(self.title(), group).transpose()).collect()
    }
}

fn document(title: &str, group: &GroupResults) -> Result<Option<TableDoc>> {
    let rows = agreement_rows(group, &task_ranks(group));
    if rows.is_empty() {
        return Ok(None);
    }
    let names = ["Row", "Task", "Runs", "Mean rank", "Largest", "Smallest", "Agreement ρ", "Pairs of seeds"];
    Ok(Some(TableDoc {
        title: format!("{title}: {}", group.group.title()),
        header: names.map(str::to_string).to_vec(),
        rows: rows.iter().map(|row| table_row(row, group)).collect(),
        notes: vec![
            "Ranks at the selected checkpoint, mean over seeds; rows and tasks in which something was pruned. Largest, smallest: mean \
             rank of a kind of linear. Agreement: Spearman's correlation of the modules' ranks between every two seeds, mean (smallest \
             to largest); a pair in which one seed's ranks are all equal has none."
                .into(),
        ],
        data: Frame::from_rows(&rows)?.into_data(),
    }))
}

fn table_row(row: &RankAgreementRow, group: &GroupResults) -> Vec<String> {
    let column = group.columns.iter().find(|column| column.name == row.task);
    let kind = |name: &str, mean: f64| format!("{} {mean:.1}", name.replace('_', " "));
    let agreement = match (row.agreement, row.agreement_low, row.agreement_high) {
        (Some(mean), Some(low), Some(high)) => format!("{mean:.2} ({low:.2} to {high:.2})"),
        _ => ABSENT.into(),
    };
    let cells = vec![
        row.title.clone(),
        column.map_or(row.task.clone(), |column| column.title.clone()),
        row.runs.to_string(),
        format!("{:.1} of {}", row.mean_rank, row.max_rank),
        kind(&row.largest_kind, row.largest),
        kind(&row.smallest_kind, row.smallest),
        agreement,
        row.pairs.to_string(),
    ];
    cells
}
