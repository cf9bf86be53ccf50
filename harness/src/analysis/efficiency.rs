//! Efficiency (the paper's Table 4): interleaved time per epoch at one batch size, memory of each method alone, and parameters.

use std::collections::BTreeMap;

use crate::analysis::frame::typed::frame_rows;
use crate::analysis::stats::{Interval, bootstrap, median, quantile};
use crate::analysis::summary::{method_order, method_title, row_title};
use crate::store::rows::{PeerRound, TimingRow};

/// The method the ratios refer to.
const REFERENCE: &str = "adalora";
/// The method of the published claim.
pub const CLAIMED: &str = "sora";
const DRAWS: usize = 10_000;
/// SoRA's published share of AdaLoRA's time per epoch.
pub const PUBLISHED_RATIO: f64 = 0.70;
/// Distance of a ratio from it that is still "about 70 %" (OUR CHOICE: the publication gives one digit).
pub const ABOUT: f64 = 0.05;
/// Set-up of the peers' methods as their authors released them.
const RELEASED_SETUP: &str = "eager";
const OWN: &str = "this program";

frame_rows! {
    /// One method in one setting, of this program or of a peer.
    pub struct EfficiencyRow {
        /// `this program`, or the peer's set-up.
        implementation: String,
        /// Task; empty for a peer, whose rows are random.
        task: String,
        /// Method.
        method: String,
        /// Difference from the method's other settings; `base` for its only one.
        label = "variant": String,
        /// Name of method and variant in tables.
        title: String,
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
        /// Floating-point operations a second by formula in units of 10^12: the backbone's products, attention, branches.
        teraflops: Option<f64>,
        /// Its share, in percent, of what a large product of the same number format reaches on the device.
        product_share: Option<f64>,
        /// Median energy of the whole card in joules an epoch.
        median_joules: Option<f64>,
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

type Setting<'a> = (&'a str, &'a str, &'a str, &'a str, usize);

fn setting_of(row: &TimingRow) -> Setting<'_> {
    (&row.task, &row.device, &row.driver, &row.precision, row.batch_size)
}

/// One row for each setting and method timed, of this program; then those of the peers as released, setting by setting.
pub fn efficiency(timings: &[TimingRow], peers: &[PeerRound]) -> Vec<EfficiencyRow> {
    let mut rows = own_rows(timings);
    rows.extend(peer_rows(peers));
    rows
}

fn own_rows(timings: &[TimingRow]) -> Vec<EfficiencyRow> {
    // Variants of a method stand in the order in which they were timed.
    let mut variants: Vec<&str> = Vec::new();
    let mut groups: BTreeMap<_, Vec<&TimingRow>> = BTreeMap::new();
    for row in timings {
        let variant = variants.iter().position(|known| *known == row.variant).unwrap_or_else(|| {
            variants.push(&row.variant);
            variants.len() - 1
        });
        let key = (setting_of(row), method_order(&row.method), row.method.as_str(), variant);
        groups.entry(key).or_default().push(row);
    }
    let mut references: BTreeMap<Setting, &[&TimingRow]> = BTreeMap::new();
    for (key, rows) in groups.iter().filter(|(key, _)| key.2 == REFERENCE) {
        references.entry(key.0).or_insert(rows);
    }
    groups.iter().map(|(key, rows)| own_row(rows, references.get(&key.0).copied())).collect()
}

fn own_row(all: &[&TimingRow], reference: Option<&[&TimingRow]>) -> EfficiencyRow {
    let rows: Vec<&TimingRow> = all.iter().copied().filter(|row| row.recordings == 0).collect();
    let seconds: Vec<f64> = rows.iter().map(|row| row.seconds).collect();
    let total: f64 = seconds.iter().sum();
    let tokens: f64 = rows.iter().map(|row| row.tokens as f64).sum();
    // Of every epoch, or of none: a sum over some of them is no rate.
    let operations = rows.iter().map(|row| row.operations).sum::<Option<f64>>();
    let rate = operations.filter(|_| total > 0.0).map(|operations| operations / total);
    let product_rates: Vec<f64> = rows.iter().filter_map(|row| row.product_rate).collect();
    let joules: Vec<f64> = rows.iter().filter_map(|row| row.joules).collect();
    let (first, last) = (all[0], all[all.len() - 1]);
    let ratios = reference.map(|reference| ratios(&rows, reference)).unwrap_or_default();
    let interval = if first.method == REFERENCE { None } else { ratio_interval(&ratios) };
    let largest = |of: fn(&TimingRow) -> Option<f64>| all.iter().filter_map(|row| of(row)).max_by(f64::total_cmp);
    EfficiencyRow {
        implementation: OWN.into(),
        task: first.task.clone(),
        method: first.method.clone(),
        label: first.variant.clone(),
        title: row_title(&method_title(&first.method), &first.variant),
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
        teraflops: rate.map(|rate| rate / 1e12),
        product_share: rate.zip(median(&product_rates)).map(|(rate, most)| 100.0 * rate / most),
        median_joules: median(&joules),
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
    let mut partners: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for row in reference.iter().filter(|row| row.recordings == 0) {
        partners.entry((row.repeat, row.epoch)).or_insert(row.seconds);
    }
    let ratio = |row: &&TimingRow| Some(row.seconds / partners.get(&(row.repeat, row.epoch))?);
    rows.iter().filter_map(ratio).filter(|ratio| ratio.is_finite()).collect()
}

fn ratio_interval(ratios: &[f64]) -> Option<Interval> {
    if ratios.len() < 3 { None } else { bootstrap(ratios, median, 0.95, DRAWS, 0) }
}

/// The peers' methods as released, setting by setting.
fn peer_rows(peers: &[PeerRound]) -> Vec<EfficiencyRow> {
    let mut groups: BTreeMap<_, Vec<&PeerRound>> = BTreeMap::new();
    for round in peers.iter().filter(|round| round.setup == RELEASED_SETUP) {
        let setting = (round.device.as_str(), round.precision.as_str(), round.batch, round.length);
        groups.entry((setting, method_order(&round.method), round.method.as_str())).or_default().push(round);
    }
    let references: BTreeMap<_, &Vec<&PeerRound>> =
        groups.iter().filter(|(key, _)| key.2 == REFERENCE).map(|(key, rounds)| (key.0, rounds)).collect();
    let row = |((setting, _, method), rounds): (&(_, usize, &str), &Vec<&PeerRound>)| {
        let seconds: Vec<f64> = rounds.iter().map(|round| round.seconds_per_step).collect();
        let ratios: Vec<f64> = references.get(setting).map(|own| peer_ratios(rounds, own)).unwrap_or_default();
        let interval = if *method == REFERENCE { None } else { ratio_interval(&ratios) };
        let (device, precision, batch, length): (&str, &str, usize, usize) = *setting;
        EfficiencyRow {
            implementation: format!(
                "as released, unfused ({})",
                if *method == CLAIMED { "its authors' form" } else { "PEFT" }
            ),
            task: String::new(),
            method: method.to_string(),
            label: String::new(),
            title: method_title(method),
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
            teraflops: None,
            product_share: None,
            median_joules: None,
            peak_allocated_mib: None,
            peak_reserved_mib: None,
            peak_resident_mib: None,
            allocated: None,
            effective: None,
            by_phase: String::new(),
        }
    };
    groups.iter().map(row).collect()
}

fn peer_ratios(rounds: &[&PeerRound], reference: &[&PeerRound]) -> Vec<f64> {
    let mut partners: BTreeMap<usize, f64> = BTreeMap::new();
    for round in reference {
        partners.entry(round.round).or_insert(round.seconds_per_step);
    }
    rounds.iter().filter_map(|round| Some(round.seconds_per_step / partners.get(&round.round)?)).collect()
}

/// Answer to the published claim that SoRA needs about 70 % of AdaLoRA's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeClaim {
    /// The interval of the ratio lies within [`ABOUT`] of [`PUBLISHED_RATIO`].
    Holds,
    /// It lies below.
    Faster,
    /// It lies above.
    Slower,
    /// It reaches over an end.
    Undecided,
    /// There are too few rounds for an interval.
    TooFewRounds,
}

impl EfficiencyRow {
    /// Whether this program was timed, not a peer.
    pub fn is_own(&self) -> bool {
        self.implementation == OWN
    }

    /// Answer to the published claim; `None` for a row of another method, or without a ratio.
    pub fn time_claim(&self) -> Option<TimeClaim> {
        self.ratio.filter(|_| self.method == CLAIMED)?;
        let (least, most) = (PUBLISHED_RATIO - ABOUT, PUBLISHED_RATIO + ABOUT);
        Some(match (self.ratio_low, self.ratio_high) {
            (Some(low), Some(high)) if low >= least && high <= most => TimeClaim::Holds,
            (Some(_), Some(high)) if high < least => TimeClaim::Faster,
            (Some(low), Some(_)) if low > most => TimeClaim::Slower,
            (Some(_), Some(_)) => TimeClaim::Undecided,
            _ => TimeClaim::TooFewRounds,
        })
    }
}
