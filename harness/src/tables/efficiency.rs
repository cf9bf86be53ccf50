//! Efficiency (the paper's Table 4): interleaved time per epoch at one batch size, memory and parameters.

use std::collections::BTreeMap;

use super::{GridRow, Needs, Rendered, Table, count, method_order, method_title};
use crate::error::Result;
use crate::frame::Collected;
use crate::frame::typed::frame_rows;
use crate::record::TimingRow;
use crate::stats::{Interval, bootstrap, median, quantile};

/// The method the ratios refer to.
const REFERENCE: &str = "adalora";
const DRAWS: usize = 10_000;

/// The published claim; it stands below every efficiency table.
pub const CLAIM: &str = "Published claim: SoRA needs about 70 % of AdaLoRA's time per epoch (SoRA abstract, second-hand †; \
                         the paper's Table 4 was not at hand).";

/// Efficiency from interleaved timings.
pub struct Efficiency;

frame_rows! {
    /// One method in one setting.
    pub struct Line {
        /// Task.
        task: String,
        /// Method.
        method: String,
        /// Device.
        device: String,
        /// Number format.
        precision: String,
        /// Rows of one step.
        batch_size: u64,
        /// Tokens of one row.
        length: u64,
        /// Epochs timed.
        epochs: u64,
        /// Median seconds an epoch.
        median_seconds: Option<f64>,
        /// First quartile.
        quartile1: Option<f64>,
        /// Third quartile.
        quartile3: Option<f64>,
        /// Median of the paired ratios to AdaLoRA.
        ratio: Option<f64>,
        /// Lower end of its 95 % bootstrap interval over the pairs.
        ratio_low: Option<f64>,
        /// Upper end.
        ratio_high: Option<f64>,
        /// Tokens (padding not counted) a second, over all epochs.
        tokens_per_second: Option<f64>,
        /// Largest peak memory in MiB.
        peak_memory_mib: Option<f64>,
        /// Allocated parameters.
        allocated: i64,
        /// Effective parameters after the last epoch.
        effective: i64,
    }
}

impl Table for Efficiency {
    fn name(&self) -> &'static str {
        "efficiency"
    }

    fn title(&self) -> &'static str {
        "Efficiency (the paper's Table 4): time per epoch, interleaved"
    }

    fn needs(&self) -> Needs {
        Needs::Timings
    }

    fn build(&self, collected: &Collected) -> Result<Option<Rendered>> {
        let lines = lines(&collected.timings);
        if lines.is_empty() {
            return Ok(None);
        }
        Ok(Some(Rendered {
            title: self.title().to_string(),
            header: header(&lines),
            rows: lines.iter().map(|line| grid_row(line, several(&lines))).collect(),
            notes: notes(&lines),
            data: crate::frame::frame(&lines)?,
        }))
    }
}

/// Whether the setting (task, device, batch …) varies, so that each row has to name it.
fn several(lines: &[Line]) -> bool {
    lines.iter().any(|line| setting(line) != setting(&lines[0]))
}

fn setting(line: &Line) -> String {
    format!("{}, batch {} × {} tokens, {}, {}", line.task, line.batch_size, line.length, line.precision, line.device)
}

fn lines(timings: &[TimingRow]) -> Vec<Line> {
    let mut groups: BTreeMap<_, Vec<&TimingRow>> = BTreeMap::new();
    for row in timings {
        let setting = (&row.task, &row.device, &row.precision, row.batch_size);
        groups.entry((setting, method_order(&row.method), &row.method)).or_default().push(row);
    }
    let pairs_of = |setting: &(&String, &String, &String, usize)| {
        groups.iter().find(|(key, _)| key.0 == *setting && key.2 == REFERENCE).map(|(_, rows)| rows.as_slice())
    };
    groups.iter().map(|((setting, _, _), rows)| line(rows, pairs_of(setting))).collect()
}

fn line(rows: &[&TimingRow], reference: Option<&[&TimingRow]>) -> Line {
    let seconds: Vec<f64> = rows.iter().map(|row| row.seconds).collect();
    let total: f64 = seconds.iter().sum();
    let tokens: f64 = rows.iter().map(|row| row.tokens as f64).sum();
    let (first, last) = (rows[0], rows[rows.len() - 1]);
    let ratios = reference.map(|reference| ratios(rows, reference)).unwrap_or_default();
    let own = first.method == REFERENCE;
    let interval = if own { None } else { ratio_interval(&ratios) };
    Line {
        task: first.task.clone(),
        method: first.method.clone(),
        device: first.device.clone(),
        precision: first.precision.clone(),
        batch_size: first.batch_size as u64,
        length: rows.iter().map(|row| row.length as u64).max().unwrap_or(0),
        epochs: rows.len() as u64,
        median_seconds: median(&seconds),
        quartile1: quantile(&seconds, 0.25),
        quartile3: quantile(&seconds, 0.75),
        ratio: median(&ratios),
        ratio_low: interval.map(|i| i.low),
        ratio_high: interval.map(|i| i.high),
        tokens_per_second: (total > 0.0).then(|| tokens / total),
        peak_memory_mib: rows.iter().map(|row| row.peak_memory_mib).max_by(f64::total_cmp),
        allocated: first.allocated,
        effective: last.effective,
    }
}

/// Ratios of the epochs that lie side by side: the same round and epoch.
fn ratios(rows: &[&TimingRow], reference: &[&TimingRow]) -> Vec<f64> {
    let partner = |row: &TimingRow| reference.iter().find(|r| r.repeat == row.repeat && r.epoch == row.epoch);
    rows.iter().filter_map(|row| Some(row.seconds / partner(row)?.seconds)).filter(|r| r.is_finite()).collect()
}

fn ratio_interval(ratios: &[f64]) -> Option<Interval> {
    if ratios.len() < 3 { None } else { bootstrap(ratios, median, 0.95, DRAWS, 0) }
}

fn header(lines: &[Line]) -> Vec<String> {
    let mut header = vec!["Method".to_string()];
    if several(lines) {
        header.push("Setting".into());
    }
    let rest = [
        "Epochs",
        "Median s/epoch",
        "Quartiles",
        "Ratio to AdaLoRA",
        "95 % interval",
        "Tokens/s",
        "Peak MiB",
        "Allocated",
        "Effective",
    ];
    header.extend(rest.map(str::to_string));
    header
}

fn grid_row(line: &Line, several: bool) -> GridRow {
    let fixed = |value: Option<f64>, digits: usize| value.map_or("–".to_string(), |v| format!("{v:.digits$}"));
    let both = |low: Option<f64>, high: Option<f64>, digits| match (low, high) {
        (Some(_), Some(_)) => format!("{} to {}", fixed(low, digits), fixed(high, digits)),
        _ => "–".to_string(),
    };
    let mut cells = vec![method_title(&line.method)];
    if several {
        cells.push(setting(line));
    }
    cells.extend([
        line.epochs.to_string(),
        fixed(line.median_seconds, 3),
        both(line.quartile1, line.quartile3, 3),
        fixed(line.ratio, 3),
        both(line.ratio_low, line.ratio_high, 3),
        fixed(line.tokens_per_second, 0),
        fixed(line.peak_memory_mib, 0),
        count(line.allocated as f64),
        count(line.effective as f64),
    ]);
    GridRow { cells, sub: false }
}

fn notes(lines: &[Line]) -> Vec<String> {
    let mut notes = Vec::new();
    if !several(lines) {
        notes.push(format!("Setting: {}.", setting(&lines[0])));
    }
    notes.push(
        "Methods take turns, epoch by epoch, after a warm-up; evaluation and checkpointing are excluded. Ratio: median of \
         the ratios of epochs side by side; its interval is a percentile bootstrap over those pairs (from three on)."
            .into(),
    );
    notes.push(CLAIM.into());
    notes
}
