//! Cost of the training runs as they saw it themselves.

use crate::analysis::cost::{CostRow, cost};
use crate::analysis::efficiency::efficiency;
use crate::analysis::frame::typed::Frame;
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::error::Result;
use crate::report::table::{Table, TableDoc};
use crate::report::tables::cells::{ABSENT, count_or_absent, fixed, peak_memory};
use crate::report::tables::efficiency::claim_notes;

/// Cost as the training runs saw it.
pub struct Cost;

impl Table for Cost {
    fn name(&self) -> &'static str {
        "run_times"
    }

    fn title(&self) -> &'static str {
        "Cost of the training runs"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        let claims = claim_notes(&efficiency(&frame.timings, &frame.peers));
        frame.groups.iter().filter_map(|group| document(self.title(), group, &claims).transpose()).collect()
    }
}

fn document(title: &str, group: &GroupResults, claims: &[String]) -> Result<Option<TableDoc>> {
    let Some((tasks, rows)) = cost(group) else { return Ok(None) };
    Ok(Some(TableDoc {
        title: format!("{title}: {} (not interleaved; see `just efficiency`)", group.group.title()),
        header: header(tasks.len()),
        rows: rows.iter().map(table_row).collect(),
        notes: notes(&tasks, claims),
        data: Frame::from_rows(&rows)?.into_data(),
    }))
}

fn header(tasks: usize) -> Vec<String> {
    let seconds = if tasks == 1 { "s/epoch".to_string() } else { format!("s/epoch, {tasks} tasks") };
    let rest = ["Ratio to AdaLoRA", "Tokens/s", "Peak MiB", "Wall s a run", "Of it", "Allocated", "Effective"];
    let first = ["Method", "Device", "Runs"].map(str::to_string);
    first.into_iter().chain([seconds]).chain(rest.map(str::to_string)).collect()
}

fn table_row(row: &CostRow) -> Vec<String> {
    let cells = vec![
        row.title.clone(),
        row.device.clone(),
        row.runs.to_string(),
        fixed(row.seconds, 2),
        fixed(row.ratio, 2),
        fixed(row.tokens_per_second, 0),
        peak_memory([row.peak_allocated_mib, row.peak_reserved_mib, row.peak_resident_mib]),
        fixed(row.wall_seconds, 1),
        shares(row),
        count_or_absent(row.allocated),
        count_or_absent(row.effective),
    ];
    cells
}

/// Shares of the wall time: `training 75 %, evaluation 17 %`.
fn shares(row: &CostRow) -> String {
    let Some(shares) = row.shares() else { return ABSENT.into() };
    shares.iter().map(|(name, percent)| format!("{name} {percent:.0} %")).collect::<Vec<_>>().join(", ")
}

fn notes(tasks: &[String], claims: &[String]) -> Vec<String> {
    let mut notes = vec![
        format!(
            "Seconds an epoch: sum over {} of the median over runs; ratio: median over those tasks, on the same device. Evaluation and \
             checkpointing are excluded, warm-up and recording are not, and the methods did not take turns.",
            tasks.join(", ")
        ),
        "Peak memory: of a run that was trained alone, from its start to its end. Wall time: everything, an equal share for runs side by \
         side; what several runs use (backbone, rows) is counted in the first of them."
            .into(),
    ];
    notes.extend_from_slice(claims);
    notes
}
