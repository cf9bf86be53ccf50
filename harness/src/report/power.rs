//! Power of the seeds of stored runs, as tables for a terminal.

use crate::analysis::frame::typed::Frame;
use crate::analysis::paired::EQUAL;
use crate::analysis::power::{PowerRow, power};
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::analysis::verdict::MOST_SEEDS;
use crate::error::Result;
use crate::report::table::TableDoc;
use crate::report::tables::cells::{ABSENT, fixed};

/// One table for each group of runs with a pair of methods.
///
/// # Errors
/// A bug only.
pub fn documents(frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
    frame.groups.iter().filter_map(|group| document(group, frame.margin).transpose()).collect()
}

fn document(group: &GroupResults, margin: f64) -> Result<Option<TableDoc>> {
    let rows = power(group, margin);
    if rows.is_empty() {
        return Ok(None);
    }
    let names =
        ["Pair", "Task", "Seeds", "Deviation", "Detectable", "Margin", "Seeds to show it", "Seeds to exclude it"];
    Ok(Some(TableDoc {
        title: format!("Differences that seeds can show: {}", group.group.title()),
        header: names.map(str::to_string).to_vec(),
        rows: rows.iter().map(|row| table_row(row, group)).collect(),
        notes: vec![
            "Points of 100. Deviation: of the difference on one seed, over seeds. Detectable: the least mean difference that a paired t test over \
             these seeds, at 5 %, finds in 80 of 100 repetitions. Seeds to show it: as many as find a difference of the margin so. Seeds to exclude \
             it: as many as bring the 90 % interval into the margin where the methods are equal. A deviation of few seeds is itself \
             uncertain: of three, by a factor of two easily."
                .into(),
        ],
        data: Frame::from_rows(&rows)?.into_data(),
    }))
}

fn table_row(row: &PowerRow, group: &GroupResults) -> Vec<String> {
    let column = group.columns.iter().find(|column| column.name == row.task);
    let has_spread = row.std.is_some_and(|std| std > EQUAL);
    let seeds = |seeds: Option<u64>| match seeds {
        Some(seeds) => seeds.to_string(),
        None if has_spread => format!("> {MOST_SEEDS}"),
        None => ABSENT.into(),
    };
    vec![
        format!("{} − {}", row.title, row.reference),
        column.map_or("all tasks".into(), |column| column.title.clone()),
        row.pairs.to_string(),
        fixed(row.std, 2),
        fixed(row.detectable, 2),
        format!("{:.2}", row.margin),
        seeds(row.seeds_to_show),
        seeds(row.seeds_to_exclude),
    ]
}
