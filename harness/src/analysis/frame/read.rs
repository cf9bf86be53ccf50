//! `results.csv` of a report, read back: settings, states, counts and scores. Curves, ranks and predictions are not in it.

use std::path::Path;

use csv::StringRecord;

use crate::analysis::frame::rows::{OPTION, RunRow, ScoreRow};
use crate::analysis::frame::run::RunResult;
use crate::analysis::frame::typed::BASE;
use crate::error::{Error, Result};

/// Runs of a report's `results.csv`, in its order.
///
/// # Errors
/// The file cannot be read, or was written by another version of this program.
pub fn read_results(path: &Path) -> Result<Vec<RunResult>> {
    let other_version = |e: csv::Error| {
        let advice = "`rankbench report` writes the report of stored runs afresh";
        Error::Input(format!("{} is damaged or of another version of this program: {e}. {advice}", path.display()))
    };
    let mut reader = csv::Reader::from_path(path).map_err(|e| Error::input(path, e))?;
    let headers = reader.headers().map_err(other_version)?.clone();
    let mut runs: Vec<RunResult> = Vec::new();
    for record in reader.records() {
        let (row, score) = record.and_then(|record| rows(&record, &headers)).map_err(other_version)?;
        if runs.last().is_none_or(|run| run.row.run != row.run) {
            runs.push(without_scores(row));
        }
        if let Some(run) = runs.last_mut().filter(|_| !score.metric.is_empty()) {
            run.scores.push(score);
        }
    }
    Ok(runs)
}

/// The run and the score of a line, the value as the program has it, in 0..1.
fn rows(record: &StringRecord, headers: &StringRecord) -> csv::Result<(RunRow, ScoreRow)> {
    let score: ScoreRow = record.deserialize(Some(headers))?;
    let row: RunRow = record.deserialize(Some(headers))?;
    let label = if row.label == BASE { String::new() } else { row.label };
    let value = score.value.map(|points| points / 100.0);
    Ok((RunRow { label, options: options(record, headers), ..row }, ScoreRow { value, ..score }))
}

/// Every option with a column of its own, `key=value` joined by blanks.
fn options(record: &StringRecord, headers: &StringRecord) -> String {
    let pair = |(head, value): (&str, &str)| Some((head.strip_prefix(OPTION)?.to_string(), value.to_string()));
    let pairs = headers.iter().zip(record).filter_map(pair).filter(|(_, value)| !value.is_empty());
    pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

fn without_scores(row: RunRow) -> RunResult {
    let (scores, losses, selection, ranks, stages) = Default::default();
    RunResult { row, scores, losses, selection, ranks, stages, budget_after: None, predictions: None, stored: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports of earlier versions, which lack columns of today's.
    #[test]
    fn every_committed_report_is_read() {
        let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results/reference");
        let folders = std::fs::read_dir(reference).unwrap().map(|entry| entry.unwrap().path().join("results.csv"));
        let files: Vec<_> = folders.filter(|path| path.is_file()).collect();
        assert!(files.len() >= 6, "{files:?}");
        for file in files {
            let runs = read_results(&file).unwrap_or_else(|error| panic!("{error}"));
            assert!(runs.iter().all(|run| run.row.origin == "here" && !run.scores.is_empty()), "{}", file.display());
        }
    }
}
