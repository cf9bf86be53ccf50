//! Claims of the papers, each with a sentence that says what the runs say to it.

use crate::analysis::claims::{ClaimRow, Claims};
use crate::analysis::frame::typed::Frame;
use crate::analysis::published::Status;
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::error::Result;
use crate::report::table::{Table, TableDoc};
use crate::report::tables::cells::ABSENT;

/// Claims of the papers.
pub struct ClaimsTable;

impl Table for ClaimsTable {
    fn name(&self) -> &'static str {
        "claims"
    }

    fn title(&self) -> &'static str {
        "Claims of the papers"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        let claims = Claims::of(frame)?;
        let of_group = |group: &GroupResults| {
            // A claim without any number here says nothing: another method's, or another data set's.
            let rows: Vec<ClaimRow> = claims.of_group(group).into_iter().filter(|row| row.ours.is_some()).collect();
            (!rows.is_empty()).then(|| document(self.title(), &group.group.title(), &rows))
        };
        frame.groups.iter().filter_map(of_group).collect()
    }
}

fn document(title: &str, group: &str, rows: &[ClaimRow]) -> Result<TableDoc> {
    let names = ["Claim", "Paper", "Published", "Here", "95 % interval", "n", "Word"];
    Ok(TableDoc {
        title: format!("{title}: {group}"),
        header: names.map(str::to_string).to_vec(),
        rows: rows.iter().map(table_row).collect(),
        notes: rows.iter().map(sentence).chain([rule()]).collect(),
        data: Frame::from_rows(rows)?.into_data(),
    })
}

fn table_row(row: &ClaimRow) -> Vec<String> {
    let mark = Status::mark_of(&row.published_status);
    let interval = row.low.zip(row.high).map(|(low, high)| format!("{low:.2} to {high:.2}"));
    let cells = vec![
        format!("{} ({})", row.text, row.rows),
        row.paper.clone(),
        format!("{:.2}{mark}", row.published),
        row.ours.map_or(ABSENT.into(), |ours| format!("{ours:.2}")),
        interval.unwrap_or_else(|| ABSENT.into()),
        row.n.to_string(),
        row.word.clone(),
    ];
    cells
}

/// The claim's sentence with the numbers that decide it.
fn sentence(row: &ClaimRow) -> String {
    let ours = match (row.ours, row.low, row.high) {
        (Some(ours), Some(low), Some(high)) => {
            format!("{ours:.2} here, 95 % interval {low:.2} to {high:.2}, n = {}", row.n)
        }
        (Some(ours), ..) => format!("{ours:.2} here, n = {}", row.n),
        _ => "no number here".to_string(),
    };
    let reasons = if row.reasons.is_empty() { String::new() } else { format!(" because of: {}", row.reasons) };
    format!("{}: {}{reasons}; {:.2} published, {ours} ({}).", row.text, row.word, row.published, row.rows)
}

fn rule() -> String {
    "holds: the whole interval is where the claim puts it; fails: all of it is elsewhere; undecided: it has both. Scores and counts are \
     paired by seed over the eight tasks; times are of the interleaved measurement; † second-hand, ‡ unverified. What is not the \
     published backbone on real GLUE decides no claim about scores or counts."
        .into()
}
