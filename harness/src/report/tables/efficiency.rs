//! Efficiency (the paper's Table 4): interleaved time per epoch at one batch size, memory of each method alone, and parameters.

use crate::analysis::efficiency::{CLAIMED, EfficiencyRow, TimeClaim, efficiency};
use crate::analysis::frame::typed::Frame;
use crate::analysis::results::ResultsFrame;
use crate::error::Result;
use crate::report::table::{Table, TableDoc};
use crate::report::tables::cells::{ABSENT, count_or_absent, fixed, peak_memory};

/// Efficiency from interleaved timings.
pub struct Efficiency;

impl Table for Efficiency {
    fn name(&self) -> &'static str {
        "efficiency"
    }

    fn title(&self) -> &'static str {
        "Efficiency (the paper's Table 4): time per epoch, interleaved"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        let rows = efficiency(&frame.timings, &frame.peers);
        let own: Vec<&EfficiencyRow> = rows.iter().filter(|row| row.is_own()).collect();
        if own.is_empty() {
            return Ok(Vec::new());
        }
        let mut notes = notes(&own);
        notes.extend(claim_notes(&rows));
        let columns = Columns::of(&rows);
        Ok(vec![TableDoc {
            title: self.title().to_string(),
            header: columns.header(),
            rows: rows.iter().map(|row| columns.cells(row)).collect(),
            notes,
            data: Frame::from_rows(&rows)?.into_data(),
        }])
    }
}

fn setting(row: &EfficiencyRow) -> String {
    let task = if row.task.is_empty() { "random rows" } else { &row.task };
    format!("{task}, batch {} × {} tokens, {}, {}", row.batch_size, row.length, row.precision, row.device)
}

/// Sentences on the published claim, one for each implementation and setting measured: it depends on the implementation.
pub fn claim_notes(rows: &[EfficiencyRow]) -> Vec<String> {
    let mut notes = vec![
        "Published claim: SoRA needs about 70 % of AdaLoRA's time per epoch (SoRA abstract, second-hand †; the paper's Table 4 was not at \
         hand); \"about\" is taken as ±5 points."
            .to_string(),
    ];
    // Further variants of a method have their rows in the table; the claim is about the method's first.
    let place = |row: &EfficiencyRow| (row.implementation.clone(), setting(row), row.method.clone());
    let is_first =
        |(index, row): &(usize, &EfficiencyRow)| rows[..*index].iter().all(|other| place(other) != place(row));
    notes.extend(rows.iter().enumerate().filter(is_first).filter_map(|(_, row)| claim_sentence(row)));
    if rows.iter().all(EfficiencyRow::is_own) {
        notes.push(
            "The claim, as released and unfused (SoRA in its authors' form, PEFT's AdaLoRA): not measured here; `just compare-peers` does \
             it, and a report reads its peer_rounds.csv."
                .into(),
        );
    }
    notes
}

fn claim_sentence(row: &EfficiencyRow) -> Option<String> {
    let place = format!("{} ({})", row.implementation, setting(row));
    let ratio = fixed(row.ratio, 2);
    let word = match row.time_claim()? {
        TimeClaim::TooFewRounds => {
            return Some(format!("The claim is undecided for {place}: ratio {ratio}, too few rounds for an interval."));
        }
        TimeClaim::Holds => "holds",
        TimeClaim::Faster => "fails, on the faster side,",
        TimeClaim::Slower => "fails, on the slower side,",
        TimeClaim::Undecided => "is undecided",
    };
    let (low, high) = (fixed(row.ratio_low, 2), fixed(row.ratio_high, 2));
    Some(format!("The claim {word} for {place}: ratio {ratio}, 95 % interval {low} to {high}."))
}

/// Columns that not every table has.
struct Columns {
    /// The setting (task, device, batch …) varies, so each row has to name it.
    has_setting: bool,
    /// Energy was counted.
    has_energy: bool,
}

impl Columns {
    fn of(rows: &[EfficiencyRow]) -> Self {
        Columns {
            has_setting: rows.windows(2).any(|pair| setting(&pair[0]) != setting(&pair[1])),
            has_energy: rows.iter().any(|row| row.median_joules.is_some()),
        }
    }

    fn header(&self) -> Vec<String> {
        let setting = ["Implementation", "Setting"].into_iter().filter(|_| self.has_setting);
        let times =
            ["Epochs", "Median s/epoch", "Quartiles", "Ratio to AdaLoRA", "95 % interval", "Tokens/s", "TFLOP/s"];
        let energy = ["J/epoch"].into_iter().filter(|_| self.has_energy);
        let sizes = ["Peak MiB", "Allocated", "Effective"];
        let names = ["Method"].into_iter().chain(setting).chain(times).chain(energy).chain(sizes);
        names.map(str::to_string).collect()
    }

    fn cells(&self, row: &EfficiencyRow) -> Vec<String> {
        let both = |low: Option<f64>, high: Option<f64>| match (low, high) {
            (Some(low), Some(high)) => format!("{low:.3} to {high:.3}"),
            _ => ABSENT.to_string(),
        };
        let counted = |value: Option<i64>| count_or_absent(value.map(|n| n as f64));
        let mut cells = vec![row.title.clone()];
        if self.has_setting {
            cells.extend([row.implementation.clone(), setting(row)]);
        }
        cells.extend(match row.is_own() {
            true => [row.epochs.to_string(), fixed(row.median_seconds, 3), both(row.quartile1, row.quartile3)],
            false => [
                format!("{} rounds", row.epochs),
                format!("{} ms/step", fixed(row.median_seconds.map(|seconds| 1000.0 * seconds), 1)),
                ABSENT.into(),
            ],
        });
        let interval = both(row.ratio_low, row.ratio_high);
        cells.extend([fixed(row.ratio, 3), interval, fixed(row.tokens_per_second, 0), rate(row)]);
        if self.has_energy {
            cells.push(fixed(row.median_joules, 0));
        }
        let peaks = [row.peak_allocated_mib, row.peak_reserved_mib, row.peak_resident_mib];
        cells.extend([peak_memory(peaks), counted(row.allocated), counted(row.effective)]);
        cells
    }
}

/// `0.061 (58 %)`.
fn rate(row: &EfficiencyRow) -> String {
    let Some(teraflops) = row.teraflops else { return ABSENT.into() };
    let share = row.product_share.map_or(String::new(), |share| format!(" ({share:.0} %)"));
    // Three digits that count.
    let digits = (2.0 - teraflops.max(1e-9).log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{teraflops:.digits$}{share}")
}

fn notes(own: &[&EfficiencyRow]) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(first) = own.first().filter(|first| own.iter().all(|row| setting(row) == setting(first))) {
        notes.push(format!("Setting: {}.", setting(first)));
    }
    notes.push(
        "Methods take turns, epoch by epoch; every kind of step (shape of a batch, phase of a method) was taken once before the first \
         round. Evaluation and checkpointing are excluded. Ratio: median of the ratios of epochs side by side; its interval is a percentile \
         bootstrap over those pairs (from three on). Peak memory: of each method by itself."
            .into(),
    );
    if own.iter().any(|row| row.teraflops.is_some()) {
        notes.push(
            "TFLOP/s: the backbone's products, attention and branches by formula, padding and bottleneck adapters not counted; in brackets its share of what a large \
             product of the same number format reached on the device before the first round."
                .into(),
        );
    }
    if own.iter().any(|row| row.median_joules.is_some()) {
        notes.push(
            "J/epoch: median energy of the whole card while an epoch ran, as its own counter has it; epochs below a second have none."
                .into(),
        );
    }
    let recorded: u64 = own.iter().map(|row| row.epochs_with_recording).sum();
    if recorded > 0 {
        notes.push(format!("{recorded} epochs in which a step was recorded are left out."));
    }
    if own.iter().any(|row| row.method == CLAIMED && !row.label.is_empty()) {
        notes.push(
            "SoRA at a smaller r computes what SoRA pruned physically to that rank does: A and B without their zero components, and as many \
             gates."
                .into(),
        );
    }
    for row in own.iter().filter(|row| !row.by_phase.is_empty()) {
        let setting = setting(row);
        notes.push(format!("{}, median s/epoch by phase ({setting}): {}.", row.title, row.by_phase));
    }
    notes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn columns_of(joules: Option<f64>) -> (Vec<String>, Vec<String>) {
        let timing = json!({
            "method": "lora", "task": "rte", "repeat": 1, "epoch": 1, "seconds": 2.0, "steps": 4, "tokens": 100, "joules": joules,
            "allocated": 8, "effective": 8, "batch_size": 32, "length": 64, "device": "gpu", "driver": "1", "precision": "bf16",
        });
        let rows = efficiency(&[serde_json::from_value(timing).unwrap()], &[]);
        let columns = Columns::of(&rows);
        (columns.header(), columns.cells(&rows[0]))
    }

    #[test]
    fn energy_has_a_column_where_it_was_counted() {
        let (header, cells) = columns_of(Some(901.4));
        assert_eq!(header.len(), cells.len());
        let at = header.iter().position(|name| name == "J/epoch").unwrap();
        assert_eq!(cells[at], "901");
        let (header, cells) = columns_of(None);
        assert!(header.len() == cells.len() && !header.contains(&"J/epoch".to_string()), "{header:?}");
    }
}
