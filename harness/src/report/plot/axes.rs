//! One panel with axes: round tick values, a light grid, a title above it.

use crate::report::plot::render::fit;
use crate::report::plot::scene::{Align, FAINT, GREY, INK, Point, Scene};

/// Font size of tick labels.
const TICK: f64 = 11.5;
/// Font size of panel titles.
const TITLE: f64 = 13.0;
/// Room left of the axis for tick labels, below it, above it for the title, and right of it.
const ROOM: (f64, f64, f64, f64) = (58.0, 26.0, 30.0, 24.0);

/// Ticks of an axis, about.
const WANTED: f64 = 4.0;

/// A panel: data coordinates on a rectangle of the figure.
#[derive(Debug, Clone, Copy)]
pub struct Panel {
    at: Point,
    size: Point,
    x: (f64, f64),
    y: (f64, f64),
}

/// How tick values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticks {
    /// As decimal numbers.
    Plain,
    /// Whole numbers only.
    Whole,
    /// Counts in thousands or millions.
    Counts,
    /// Logarithms to base 10, written as the numbers they are of: 1, 2 and 5 times a power of ten.
    Log10,
}

impl Panel {
    /// A panel in the cell at `at` of size `cell`, room for labels taken from it, for values within `x` and `y` (widened
    /// by a margin so that no value lies on an edge).
    pub fn new(at: Point, cell: Point, x: (f64, f64), y: (f64, f64)) -> Self {
        let (left, bottom, top, right) = ROOM;
        Panel {
            at: (at.0 + left, at.1 + top),
            size: (cell.0 - left - right, cell.1 - top - bottom),
            x: widened(x),
            y: widened(y),
        }
    }

    /// As [`Panel::new`], for bars: from 0 at the axis to `most` and room for a text.
    pub fn above_zero(at: Point, cell: Point, x: (f64, f64), most: f64) -> Self {
        Panel { x, y: (0.0, 1.12 * most), ..Panel::new(at, cell, x, (0.0, most)) }
    }

    /// Data to figure coordinates.
    pub fn map(&self, x: f64, y: f64) -> Point {
        let share = |value: f64, range: (f64, f64)| (value - range.0) / (range.1 - range.0);
        (self.at.0 + share(x, self.x) * self.size.0, self.at.1 + (1.0 - share(y, self.y)) * self.size.1)
    }

    /// Draws title, grid, axes and tick labels.
    pub fn axes(&self, scene: &mut Scene, title: &str, x_ticks: Ticks) {
        self.axes_at(scene, title, ticks(self.x, x_ticks));
    }

    /// As [`Panel::axes`], with these ticks below.
    pub fn axes_at(&self, scene: &mut Scene, title: &str, x_ticks: Vec<(f64, String)>) {
        let (left, top) = self.at;
        let (right, bottom) = (left + self.size.0, top + self.size.1);
        scene.text((left, top - 14.0), Align::Left, TITLE, INK, fit(title, TITLE, self.size.0 + ROOM.3));
        for (value, label) in ticks(self.y, Ticks::Plain) {
            let y = self.map(self.x.0, value).1;
            scene.path(vec![(left, y), (right, y)], FAINT, 1.0, 1.0);
            scene.text((left - 7.0, y), Align::Right, TICK, GREY, label);
        }
        for (value, label) in x_ticks {
            let x = self.map(value, self.y.0).0;
            scene.path(vec![(x, bottom), (x, bottom + 4.0)], GREY, 1.0, 1.0);
            scene.text((x, bottom + 14.0), Align::Center, TICK, GREY, label);
        }
        scene.path(vec![(left, top), (left, bottom), (right, bottom)], GREY, 1.0, 1.0);
    }
}

/// The range of values; `None` of nothing.
pub fn range(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.filter(|v| v.is_finite()).fold(None, |range, v| {
        let (low, high) = range.unwrap_or((v, v));
        Some((f64::min(low, v), f64::max(high, v)))
    })
}

fn widened((low, high): (f64, f64)) -> (f64, f64) {
    let span = high - low;
    let margin = if span > 1e-9 * high.abs().max(1e-9) { 0.08 * span } else { (0.05 * high.abs()).max(0.5) };
    (low - margin, high + margin)
}

/// About [`WANTED`] round values inside the range with their labels.
fn ticks((low, high): (f64, f64), kind: Ticks) -> Vec<(f64, String)> {
    if kind == Ticks::Log10 {
        let powers = low.floor() as i32..=high.ceil() as i32;
        let numbers = powers.flat_map(|power| [1, 2, 5].map(|digit| (digit, power)));
        let tick =
            |(digit, power): (u8, i32)| (f64::from(digit).log10() + f64::from(power), format!("{digit}e{power}"));
        return numbers.map(tick).filter(|(at, _)| (low..=high).contains(at)).collect();
    }
    let raw = (high - low) / WANTED;
    let magnitude = 10f64.powf(raw.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * magnitude >= raw * 0.999).unwrap_or(10.0);
    let step = if kind == Ticks::Plain { round * magnitude } else { (round * magnitude).max(1.0).round() };
    let first = (low / step).ceil() as i64;
    let last = (high / step).floor() as i64;
    let values = (first..=last).map(|i| i as f64 * step).filter(|v| kind != Ticks::Counts || *v >= 0.0);
    values.map(|value| (value, label(value, step, high, kind))).collect()
}

fn label(value: f64, step: f64, high: f64, kind: Ticks) -> String {
    let (unit, suffix) = match kind {
        Ticks::Counts if high >= 1e6 => (1e6, "M"),
        Ticks::Counts if high >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let decimals = (-(step / unit).log10().floor()).max(0.0) as usize;
    let shown = value / unit;
    // No "-0".
    let shown = if shown.abs() < step / unit * 1e-6 { 0.0 } else { shown };
    let suffix = if shown == 0.0 { "" } else { suffix };
    format!("{shown:.decimals$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(range: (f64, f64), kind: Ticks) -> Vec<String> {
        ticks(range, kind).into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn ticks_are_round_and_inside_the_range() {
        assert_eq!(labels((0.0, 1.0), Ticks::Plain), ["0.0", "0.5", "1.0"]);
        assert_eq!(labels((-0.31, 0.29), Ticks::Plain), ["-0.2", "0.0", "0.2"]);
        assert_eq!(labels((0.5, 3.5), Ticks::Whole), ["1", "2", "3"]);
        assert_eq!(labels((-1e5, 2.1e6), Ticks::Counts), ["0", "1M", "2M"]);
        let rates = labels((-4.2, -2.9), Ticks::Log10);
        assert_eq!(rates, ["1e-4", "2e-4", "5e-4", "1e-3"]);
        assert_eq!(ticks((-4.2, -2.9), Ticks::Log10)[1].0, 2e-4f64.log10());
    }

    #[test]
    fn values_lie_inside_the_panel() {
        let panel = Panel::new((10.0, 20.0), (300.0, 200.0), (0.0, 1.0), (5.0, 5.0));
        let (left, bottom) = panel.map(0.0, 5.0);
        let (right, _) = panel.map(1.0, 5.0);
        assert!(10.0 < left && left < right && right < 310.0 && 20.0 < bottom && bottom < 220.0);
        assert_eq!(range([2.0, f64::NAN, -1.0].into_iter()), Some((-1.0, 2.0)));
    }
}
