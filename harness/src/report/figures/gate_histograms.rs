//! Gates at the end of their runs: how large, and how many are exactly zero.

use std::collections::BTreeSet;

use crate::analysis::gates::{BINS, GateHistogram, gate_histograms};
use crate::analysis::results::GroupResults;
use crate::analysis::traces::MOST_SEEDS;
use crate::report::figure::Figure;
use crate::report::plot::axes::Panel;
use crate::report::plot::layout::{Heading, PanelGrid, series_style};
use crate::report::plot::scene::{Align, GREY, INK, Point, Rgb, Scene};

/// Panels in a line, at most.
const COLUMNS: usize = 3;
/// Decades that the bar of the zeros takes left of the others.
const ZEROS: f64 = 0.6;
/// Most labels of magnitudes.
const LABELS: i32 = 8;
/// Font size of the share of zeros.
const SHARE: f64 = 12.0;

/// Histograms of gates.
pub struct GateHistograms;

impl Figure for GateHistograms {
    fn name(&self) -> &'static str {
        "gate_histograms"
    }

    fn title(&self) -> &'static str {
        "Gates at the end of the run"
    }

    fn draw(&self, group: &GroupResults) -> Option<Scene> {
        let histograms = gate_histograms(group);
        if histograms.is_empty() {
            return None;
        }
        let heading = Heading {
            title: self.title(),
            group: &group.group,
            legend: Vec::new(),
            notes: vec![format!(
                "Magnitudes of SoRA's gates and AdaLoRA's singular values after the last step, over all modules and the first \
                 {MOST_SEEDS} seeds at most. Right: magnitude, four bars a power of ten; grey, at 0: exactly zero, with their share. \
                 Up: percent of all gates. SoRA with xi=0.0 is the plain L1 subgradient, without the proximal step."
            )],
        };
        let axes = Axes::of(&histograms);
        let cell: Point = if histograms.len() == 1 { (640.0, 320.0) } else { (420.0, 240.0) };
        let mut grid = PanelGrid::new(&heading, histograms.len(), columns(&histograms), cell);
        for (index, histogram) in histograms.iter().enumerate() {
            let corner = grid.corner(index);
            draw_panel(&mut grid.scene, (corner, cell), histogram, &axes);
        }
        Some(grid.scene)
    }
}

/// Panels in a line: those of a task stand side by side, or two below two.
fn columns(histograms: &[GateHistogram]) -> usize {
    let rows: BTreeSet<usize> = histograms.iter().map(|histogram| histogram.row).collect();
    if [2, 4].contains(&rows.len()) { 2 } else { COLUMNS }
}

/// Axes that all panels share, so that they can be compared.
struct Axes {
    /// Powers of ten at both ends.
    decades: (i32, i32),
    /// The largest share in percent.
    most: f64,
}

impl Axes {
    fn of(histograms: &[GateHistogram]) -> Self {
        let bins = || histograms.iter().flat_map(|histogram| &histogram.bins);
        let low = bins().map(|(bin, _)| bin.div_euclid(BINS)).min().unwrap_or(-1);
        let high = bins().map(|(bin, _)| bin.div_euclid(BINS) + 1).max().unwrap_or(0);
        let shares = bins().map(|(_, share)| *share).chain(histograms.iter().map(|histogram| histogram.zeros));
        Axes { decades: (low, high), most: shares.fold(1.0, f64::max) }
    }

    /// Ticks of the magnitudes, and the place of the zeros.
    fn ticks(&self) -> Vec<(f64, String)> {
        let (low, high) = self.decades;
        let every = (high - low).div_euclid(LABELS) + 1;
        let powers = (low..=high).rev().step_by(every as usize).map(|power| (f64::from(power), magnitude(power)));
        powers.chain([(f64::from(low) - ZEROS, "0".to_string())]).collect()
    }
}

/// A power of ten as it is written.
fn magnitude(power: i32) -> String {
    match power {
        -3..0 => format!("{:.*}", power.unsigned_abs() as usize, 10f64.powi(power)),
        0..4 => format!("{:.0}", 10f64.powi(power)),
        _ => format!("1e{power}"),
    }
}

fn draw_panel(scene: &mut Scene, (corner, cell): (Point, Point), histogram: &GateHistogram, axes: &Axes) {
    let (low, high) = (f64::from(axes.decades.0), f64::from(axes.decades.1));
    let panel = Panel::above_zero(corner, cell, (low - 2.0 * ZEROS, high), axes.most);
    let GateHistogram { task, title, runs, count, .. } = histogram;
    panel.axes_at(scene, &format!("{task}: {title}, percent of gates"), axes.ticks());
    let mut bar = |(from, to): (f64, f64), share: f64, color: Rgb, text: String| {
        let (corner, end) = (panel.map(from, share), panel.map(to, 0.0));
        let size = (end.0 - corner.0 - 1.0, end.1 - corner.1);
        scene.rect(corner, size, color);
        scene.spot(((corner.0 + end.0) / 2.0, corner.1), 7.0, text);
    };
    let of = format!("of {count} gates in {runs} runs");
    let zeros = histogram.zeros;
    let half = 0.5 / f64::from(BINS);
    let place = (low - ZEROS - half, low - ZEROS + half);
    bar(place, zeros, GREY, format!("{task}, {title}: {zeros:.1} percent {of} are exactly 0"));
    for (bin, share) in &histogram.bins {
        let edge = |bin: i32| f64::from(bin) / f64::from(BINS);
        let (from, to) = (edge(*bin), edge(bin + 1));
        let [least, most] = [from, to].map(|power| 10f64.powf(power));
        let text = format!("{task}, {title}: {share:.1} percent {of} from {least:.2e} to {most:.2e}");
        bar((from, to), *share, series_style(histogram.row).0, text);
    }
    // Beside the bar: above it the line of 100 percent may be.
    let (right, top) = panel.map(place.1, zeros);
    let down = (top + 0.6 * SHARE).min(panel.map(place.1, 0.0).1 - 0.8 * SHARE);
    scene.text((right + 4.0, down), Align::Left, SHARE, INK, format!("{zeros:.1} %"));
}
