//! Efficiency (the paper's Table 4): interleaved time per epoch at one batch size, memory of each method alone, and parameters.

use std::collections::BTreeMap;

use crate::analysis::frame::Collected;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::stats::{Interval, bootstrap, median, quantile};
use crate::error::Result;
use crate::report::tables::run_times::peak;
use crate::report::tables::{GridRow, Needs, Rendered, Table, count, method_order, method_title};
use crate::store::rows::{PeerRound, TimingRow};

/// The method the ratios refer to.
const REFERENCE: &str = "adalora";
const DRAWS: usize = 10_000;
/// SoRA's published share of AdaLoRA's time per epoch.
const PUBLISHED_RATIO: f64 = 0.70;
/// How far a ratio may be from it and still be "about 70 %" (OUR CHOICE: the publication gives one digit).
const ABOUT: f64 = 0.05;
/// How the peers' methods run as their authors released them.
const RELEASED_SETUP: &str = "eager";

/// Efficiency from interleaved timings.
pub struct Efficiency;

frame_rows! {
    /// One method in one setting, of this program or of a peer.
    pub struct Line {
        /// `this program`, or the peer's set-up.
        implementation: String,
        /// Task; empty for a peer, whose rows are random.
        task: String,
        /// Method.
        method: String,
        /// Device.
        device: String,
        /// GPU driver.
        driver: String,
        /// Number format.
        precision: String,
        /// Rows of one step.
        batch_size: u64,
        /// Tokens of one row.
        length: u64,
        /// Epochs timed, those with a recording left out.
        epochs: u64,
        /// Epochs left out because a step was recorded in them.
        epochs_with_recording: u64,
        /// Median seconds an epoch; of a step for a peer.
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
        /// Peak allocated memory of the method alone in MiB.
        peak_allocated_mib: Option<f64>,
        /// Peak reserved memory of the method alone in MiB.
        peak_reserved_mib: Option<f64>,
        /// Peak resident set in MiB.
        peak_resident_mib: Option<f64>,
        /// Allocated parameters.
        allocated: Option<i64>,
        /// Effective parameters after the last epoch.
        effective: Option<i64>,
        /// Median seconds an epoch in each part of the method's schedule.
        by_phase: String,
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
        let mut lines = lines(&collected.timings);
        if lines.is_empty() {
            return Ok(None);
        }
        lines.extend(peer_lines(&collected.peers));
        let own: Vec<&Line> = lines.iter().filter(|line| line.implementation == OWN).collect();
        let mut notes = notes(&own);
        notes.extend(claim_of(&lines));
        let is_several = several(&lines);
        Ok(Some(Rendered {
            title: self.title().to_string(),
            header: header(is_several),
            rows: lines.iter().map(|line| grid_row(line, is_several)).collect(),
            notes,
            data: crate::analysis::frame::frame(&lines)?,
        }))
    }
}

const OWN: &str = "this program";

/// Whether the setting (task, device, batch …) varies, so that each row has to name it.
fn several(lines: &[Line]) -> bool {
    lines.iter().any(|line| setting(line) != setting(&lines[0]))
}

fn setting(line: &Line) -> String {
    let task = if line.task.is_empty() { "random rows" } else { &line.task };
    format!("{task}, batch {} × {} tokens, {}, {}", line.batch_size, line.length, line.precision, line.device)
}

type Setting<'a> = (&'a str, &'a str, &'a str, &'a str, usize);

fn setting_of(row: &TimingRow) -> Setting<'_> {
    (&row.task, &row.device, &row.driver, &row.precision, row.batch_size)
}

fn lines(timings: &[TimingRow]) -> Vec<Line> {
    let mut groups: BTreeMap<_, Vec<&TimingRow>> = BTreeMap::new();
    for row in timings {
        groups.entry((setting_of(row), method_order(&row.method), row.method.as_str())).or_default().push(row);
    }
    let pairs_of = |setting: &Setting| {
        groups.iter().find(|(key, _)| key.0 == *setting && key.2 == REFERENCE).map(|(_, rows)| rows.as_slice())
    };
    groups.iter().map(|((setting, _, _), rows)| line(rows, pairs_of(setting))).collect()
}

fn line(all: &[&TimingRow], reference: Option<&[&TimingRow]>) -> Line {
    let rows: Vec<&TimingRow> = all.iter().copied().filter(|row| row.recordings == 0).collect();
    let seconds: Vec<f64> = rows.iter().map(|row| row.seconds).collect();
    let total: f64 = seconds.iter().sum();
    let tokens: f64 = rows.iter().map(|row| row.tokens as f64).sum();
    let (first, last) = (all[0], all[all.len() - 1]);
    let ratios = reference.map(|reference| ratios(&rows, reference)).unwrap_or_default();
    let interval = if first.method == REFERENCE { None } else { ratio_interval(&ratios) };
    let largest = |of: fn(&TimingRow) -> Option<f64>| all.iter().filter_map(|row| of(row)).max_by(f64::total_cmp);
    Line {
        implementation: OWN.into(),
        task: first.task.clone(),
        method: first.method.clone(),
        device: first.device.clone(),
        driver: first.driver.clone(),
        precision: first.precision.clone(),
        batch_size: first.batch_size as u64,
        length: all.iter().map(|row| row.length as u64).max().unwrap_or(0),
        epochs: rows.len() as u64,
        epochs_with_recording: (all.len() - rows.len()) as u64,
        median_seconds: median(&seconds),
        quartile1: quantile(&seconds, 0.25),
        quartile3: quantile(&seconds, 0.75),
        ratio: median(&ratios),
        ratio_low: interval.map(|i| i.low),
        ratio_high: interval.map(|i| i.high),
        tokens_per_second: (total > 0.0).then(|| tokens / total),
        peak_allocated_mib: largest(|row| row.peak_allocated_mib),
        peak_reserved_mib: largest(|row| row.peak_reserved_mib),
        peak_resident_mib: largest(|row| row.peak_resident_mib),
        allocated: Some(first.allocated),
        effective: Some(last.effective),
        by_phase: by_phase(&rows),
    }
}

/// `full budget 1.02, falling budget 1.31`: medians of the epochs of each part of the schedule, where there are parts.
fn by_phase(rows: &[&TimingRow]) -> String {
    let mut phases: Vec<(&str, Vec<f64>)> = Vec::new();
    for row in rows.iter().filter(|row| !row.phase.is_empty()) {
        match phases.iter_mut().find(|(phase, _)| *phase == row.phase) {
            Some((_, seconds)) => seconds.push(row.seconds),
            None => phases.push((&row.phase, vec![row.seconds])),
        }
    }
    let text = |(phase, seconds): &(&str, Vec<f64>)| Some(format!("{phase} {:.3}", median(seconds)?));
    phases.iter().filter_map(text).collect::<Vec<_>>().join(", ")
}

/// Ratios of the epochs that lie side by side (the same round and epoch), neither of them with a recording.
fn ratios(rows: &[&TimingRow], reference: &[&TimingRow]) -> Vec<f64> {
    let partner = |row: &TimingRow| {
        reference.iter().find(|r| r.repeat == row.repeat && r.epoch == row.epoch && r.recordings == 0)
    };
    rows.iter().filter_map(|row| Some(row.seconds / partner(row)?.seconds)).filter(|r| r.is_finite()).collect()
}

fn ratio_interval(ratios: &[f64]) -> Option<Interval> {
    if ratios.len() < 3 { None } else { bootstrap(ratios, median, 0.95, DRAWS, 0) }
}

/// The peers' methods as released, setting by setting.
fn peer_lines(peers: &[PeerRound]) -> Vec<Line> {
    let mut groups: BTreeMap<_, Vec<&PeerRound>> = BTreeMap::new();
    for round in peers.iter().filter(|round| round.setup == RELEASED_SETUP) {
        let setting = (round.device.as_str(), round.precision.as_str(), round.batch, round.length);
        groups.entry((setting, method_order(&round.method), round.method.as_str())).or_default().push(round);
    }
    let line = |((setting, _, method), rounds): (&(_, usize, &str), &Vec<&PeerRound>)| {
        let seconds: Vec<f64> = rounds.iter().map(|round| round.seconds_per_step).collect();
        let reference = groups.iter().find(|(key, _)| key.0 == *setting && key.2 == REFERENCE).map(|(_, rows)| rows);
        let ratios: Vec<f64> = reference.map(|reference| peer_ratios(rounds, reference)).unwrap_or_default();
        let interval = if *method == REFERENCE { None } else { ratio_interval(&ratios) };
        let (device, precision, batch, length): (&str, &str, usize, usize) = *setting;
        Line {
            implementation: format!(
                "as released, unfused ({})",
                if *method == "sora" { "its authors' form" } else { "PEFT" }
            ),
            task: String::new(),
            method: method.to_string(),
            device: device.into(),
            driver: String::new(),
            precision: precision.into(),
            batch_size: batch as u64,
            length: length as u64,
            epochs: seconds.len() as u64,
            epochs_with_recording: 0,
            median_seconds: median(&seconds),
            quartile1: quantile(&seconds, 0.25),
            quartile3: quantile(&seconds, 0.75),
            ratio: median(&ratios),
            ratio_low: interval.map(|i| i.low),
            ratio_high: interval.map(|i| i.high),
            tokens_per_second: median(&seconds).map(|seconds| (batch * length) as f64 / seconds),
            peak_allocated_mib: None,
            peak_reserved_mib: None,
            peak_resident_mib: None,
            allocated: None,
            effective: None,
            by_phase: String::new(),
        }
    };
    groups.iter().map(line).collect()
}

fn peer_ratios(rounds: &[&PeerRound], reference: &[&PeerRound]) -> Vec<f64> {
    let partner = |round: &PeerRound| reference.iter().find(|other| other.round == round.round);
    rounds.iter().filter_map(|round| Some(round.seconds_per_step / partner(round)?.seconds_per_step)).collect()
}

/// Sentences on the published claim, one for each implementation and setting measured: it depends on the implementation.
pub fn claim(timings: &[TimingRow], peers: &[PeerRound]) -> Vec<String> {
    claim_of(&[lines(timings), peer_lines(peers)].concat())
}

fn claim_of(lines: &[Line]) -> Vec<String> {
    let mut notes = vec![
        "Published claim: SoRA needs about 70 % of AdaLoRA's time per epoch (SoRA abstract, second-hand †; the paper's Table 4 was not at \
         hand); \"about\" is taken as ±5 points."
            .to_string(),
    ];
    notes.extend(lines.iter().filter(|line| line.method == "sora").filter_map(claim_sentence));
    if lines.iter().all(|line| line.implementation == OWN) {
        notes.push(
            "The claim, as released and unfused (SoRA in its authors' form, PEFT's AdaLoRA): not measured here; `just compare-peers` does \
             it, and a report reads its peer_rounds.csv."
                .into(),
        );
    }
    notes
}

fn claim_sentence(line: &Line) -> Option<String> {
    let (ratio, place) = (line.ratio?, format!("{} ({})", line.implementation, setting(line)));
    let (Some(low), Some(high)) = (line.ratio_low, line.ratio_high) else {
        return Some(format!("The claim is undecided for {place}: ratio {ratio:.2}, too few rounds for an interval."));
    };
    let (least, most) = (PUBLISHED_RATIO - ABOUT, PUBLISHED_RATIO + ABOUT);
    let word = match (low, high) {
        (low, high) if low >= least && high <= most => "holds",
        (_, high) if high < least => "fails, on the faster side,",
        (low, _) if low > most => "fails, on the slower side,",
        _ => "is undecided",
    };
    Some(format!("The claim {word} for {place}: ratio {ratio:.2}, 95 % interval {low:.2} to {high:.2}."))
}

fn header(is_several: bool) -> Vec<String> {
    let first = if is_several { vec!["Method", "Implementation", "Setting"] } else { vec!["Method"] };
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
    first.into_iter().chain(rest).map(str::to_string).collect()
}

fn grid_row(line: &Line, is_several: bool) -> GridRow {
    let fixed = |value: Option<f64>, digits: usize| value.map_or("–".to_string(), |v| format!("{v:.digits$}"));
    let both = |low: Option<f64>, high: Option<f64>, digits| match (low, high) {
        (Some(_), Some(_)) => format!("{} to {}", fixed(low, digits), fixed(high, digits)),
        _ => "–".to_string(),
    };
    let counted = |value: Option<i64>| value.map_or("–".to_string(), |n| count(n as f64));
    let is_own = line.implementation == OWN;
    let mut cells = vec![method_title(&line.method)];
    if is_several {
        cells.extend([line.implementation.clone(), setting(line)]);
    }
    let median = fixed(line.median_seconds, 3);
    cells.extend([
        if is_own { line.epochs.to_string() } else { format!("{} rounds", line.epochs) },
        if is_own { median } else { format!("{:.1} ms/step", 1000.0 * line.median_seconds.unwrap_or(f64::NAN)) },
        if is_own { both(line.quartile1, line.quartile3, 3) } else { "–".into() },
        fixed(line.ratio, 3),
        both(line.ratio_low, line.ratio_high, 3),
        fixed(line.tokens_per_second, 0),
        peak([line.peak_allocated_mib, line.peak_reserved_mib, line.peak_resident_mib]),
        counted(line.allocated),
        counted(line.effective),
    ]);
    GridRow { cells, sub: false }
}

fn notes(own: &[&Line]) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(first) = own.first().filter(|first| own.iter().all(|line| setting(line) == setting(first))) {
        notes.push(format!("Setting: {}.", setting(first)));
    }
    notes.push(
        "Methods take turns, epoch by epoch; every kind of step (shape of a batch, phase of a method) was taken once before the first \
         round. Evaluation and checkpointing are excluded. Ratio: median of the ratios of epochs side by side; its interval is a percentile \
         bootstrap over those pairs (from three on). Peak memory: of each method by itself."
            .into(),
    );
    let recorded: u64 = own.iter().map(|line| line.epochs_with_recording).sum();
    if recorded > 0 {
        notes.push(format!("{recorded} epochs in which a step was recorded are left out."));
    }
    for line in own.iter().filter(|line| !line.by_phase.is_empty()) {
        let (method, setting) = (method_title(&line.method), setting(line));
        notes.push(format!("{method}, median s/epoch by phase ({setting}): {}.", line.by_phase));
    }
    notes
}
