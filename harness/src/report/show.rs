//! Everything about one run, as tables for a terminal.

use crate::analysis::frame::typed::{Frame, FrameRow};
use crate::analysis::run_details::{FieldRow, FileRow, KindRankRow, MetricRow, RunDetails, TimePartRow};
use crate::error::Result;
use crate::report::table::TableDoc;
use crate::report::tables::cells::{ABSENT, fixed};

/// State, setting, counts and origin: a line for each, values below each other.
pub fn fields(rows: &[FieldRow]) -> String {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    rows.iter().map(|FieldRow { name, value }| format!("{name:<width$}  {value}\n")).collect()
}

/// Tables of a run's scores, ranks, times and files; those without a row are left out.
///
/// # Errors
/// A bug only.
pub fn documents(details: &RunDetails, files: &[FileRow]) -> Result<Vec<TableDoc>> {
    let scores = ["Development set", "Rows", "Metric", "Points", "Examples", "Checkpoint", "Selected by"];
    let ranks = ["Kind", "Modules", "Mean rank", "Least", "Largest", "Start", "Empty"];
    let docs = [
        table("Scores", &scores, &details.metrics, metric)?,
        table("Ranks at the checkpoint", &ranks, &details.ranks, kind)?,
        table("Time", &["Part", "Seconds", "Share"], &details.times, part)?,
        table("Files", &["File", "Bytes"], files, file)?,
    ];
    Ok(docs.into_iter().filter(|doc| !doc.rows.is_empty()).collect())
}

fn table<R: FrameRow>(title: &str, heads: &[&str], rows: &[R], cells: impl Fn(&R) -> Vec<String>) -> Result<TableDoc> {
    Ok(TableDoc {
        title: title.into(),
        header: heads.iter().map(|head| head.to_string()).collect(),
        rows: rows.iter().map(cells).collect(),
        notes: Vec::new(),
        data: Frame::from_rows(rows)?.into_data(),
    })
}

fn metric(row: &MetricRow) -> Vec<String> {
    vec![
        row.dev_set.clone(),
        row.split.clone(),
        row.metric.clone(),
        fixed(row.value, 2),
        row.examples.to_string(),
        row.checkpoint.map_or(ABSENT.into(), |step| format!("step {step}")),
        format!("{} {}", row.selection_metric, fixed(row.selection_value, 2)),
    ]
}

fn kind(row: &KindRankRow) -> Vec<String> {
    let numbers = [row.least, row.largest, row.start].map(|number| number.to_string());
    let mut cells = vec![row.kind.clone(), row.modules.to_string(), format!("{:.2}", row.mean)];
    cells.extend(numbers);
    cells.push(row.empty.to_string());
    cells
}

fn part(row: &TimePartRow) -> Vec<String> {
    vec![row.part.clone(), format!("{:.2}", row.seconds), format!("{:.0} %", 100.0 * row.share)]
}

fn file(row: &FileRow) -> Vec<String> {
    vec![row.file.clone(), row.bytes.to_string()]
}
