//! Figures as primitives with places, in logical pixels from the top left corner. Nothing here knows a backend.

use std::ops::Range;

/// A colour: red, green, blue.
pub type Rgb = (u8, u8, u8);
/// A point: x to the right, y down.
pub type Point = (f64, f64);

/// Ink of texts.
pub const INK: Rgb = (34, 34, 34);
/// Lesser texts and axes.
pub const GREY: Rgb = (110, 110, 110);
/// Grid lines.
pub const FAINT: Rgb = (226, 226, 226);

/// A whole figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Width and height.
    pub size: (f64, f64),
    /// Primitives, the later over the earlier.
    pub primitives: Vec<Primitive>,
    /// Points that a page lets people ask about.
    pub spots: Vec<Spot>,
    /// Its heading, which a paper leaves out.
    pub heading: HeadingExtent,
}

/// Place of a heading among the primitives: texts, then the legend, then notes; the rest is the figure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HeadingExtent {
    /// Primitives of the legend.
    pub legend: Range<usize>,
    /// Top of the legend.
    pub legend_top: f64,
    /// First primitive of the figure itself.
    pub body: usize,
    /// Top of the figure itself.
    pub body_top: f64,
    /// Height of the legend.
    pub legend_height: f64,
}

/// A point with a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Spot {
    /// Its centre.
    pub at: Point,
    /// Radius in which it answers.
    pub radius: f64,
    /// The text, complete by itself.
    pub text: String,
}

/// One thing to draw.
#[derive(Debug, Clone, PartialEq)]
pub enum Primitive {
    /// A line through points; `opacity` in 0..1.
    Path { points: Vec<Point>, color: Rgb, width: f64, opacity: f64 },
    /// A filled rectangle: upper left corner and size.
    Rect { at: Point, size: Point, color: Rgb },
    /// A marker at a point.
    Mark { at: Point, mark: Mark, color: Rgb, radius: f64, hollow: bool },
    /// A text.
    Text(Text),
}

/// Space above a figure without heading.
const BARE_MARGIN: f64 = 6.0;

impl Primitive {
    fn moved_up(&self, up: f64) -> Primitive {
        let moved = |point: &Point| (point.0, point.1 - up);
        let mut primitive = self.clone();
        match &mut primitive {
            Primitive::Path { points, .. } => points.iter_mut().for_each(|point| *point = moved(point)),
            Primitive::Rect { at, .. } | Primitive::Mark { at, .. } => *at = moved(at),
            Primitive::Text(text) => text.at = moved(&text.at),
        }
        primitive
    }
}

/// Shape of a marker: one a method, so that colour is not all that tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Disc.
    Circle,
    /// Square.
    Square,
    /// Triangle.
    Triangle,
    /// Square on its corner.
    Diamond,
}

/// A horizontal text.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// Anchor point: at the text's vertical centre.
    pub at: Point,
    /// End of the text that is at the anchor.
    pub align: Align,
    /// Font size.
    pub size: f64,
    /// Colour.
    pub color: Rgb,
    /// The text.
    pub text: String,
}

/// Side of its anchor that a text lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// To the right of it.
    Left,
    /// Around it.
    Center,
    /// To the left of it.
    Right,
}

impl Scene {
    /// An empty figure.
    pub fn new(width: f64, height: f64) -> Self {
        Scene { size: (width, height), primitives: Vec::new(), spots: Vec::new(), heading: HeadingExtent::default() }
    }

    /// The figure with its legend, without title and notes.
    pub fn bare(&self) -> Scene {
        let HeadingExtent { legend, legend_top, body, body_top, legend_height } = &self.heading;
        let legend_up = legend_top - BARE_MARGIN;
        let body_up = (body_top - BARE_MARGIN - legend_height).max(0.0);
        let moved = |range: Range<usize>, up: f64| self.primitives[range].iter().map(move |p| p.moved_up(up));
        let mut scene = Scene::new(self.size.0, self.size.1 - body_up);
        scene.primitives.extend(moved(legend.clone(), legend_up));
        scene.primitives.extend(moved(*body..self.primitives.len(), body_up));
        scene
    }

    /// Adds a text to a point; in a page, not in a file.
    pub fn spot(&mut self, at: Point, radius: f64, text: impl Into<String>) {
        self.spots.push(Spot { at, radius, text: text.into() });
    }

    /// Adds a line.
    pub fn path(&mut self, points: Vec<Point>, color: Rgb, width: f64, opacity: f64) {
        if points.len() > 1 {
            self.primitives.push(Primitive::Path { points, color, width, opacity });
        }
    }

    /// Adds a dashed line.
    pub fn dashes(&mut self, points: &[Point], color: Rgb, width: f64, opacity: f64) {
        for pair in points.windows(2) {
            let (dx, dy) = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
            let count = (dx.hypot(dy) / 8.0).ceil().max(1.0) as usize;
            for index in 0..count {
                let at = |share: f64| (pair[0].0 + dx * share, pair[0].1 + dy * share);
                let (from, to) = (index as f64 / count as f64, (index as f64 + 0.6) / count as f64);
                self.path(vec![at(from), at(to)], color, width, opacity);
            }
        }
    }

    /// Adds a filled rectangle.
    pub fn rect(&mut self, at: Point, size: Point, color: Rgb) {
        self.primitives.push(Primitive::Rect { at, size, color });
    }

    /// Adds a marker.
    pub fn mark(&mut self, at: Point, mark: Mark, color: Rgb, radius: f64, hollow: bool) {
        self.primitives.push(Primitive::Mark { at, mark, color, radius, hollow });
    }

    /// Adds a text.
    pub fn text(&mut self, at: Point, align: Align, size: f64, color: Rgb, text: impl Into<String>) {
        self.primitives.push(Primitive::Text(Text { at, align, size, color, text: text.into() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_figure_keeps_legend_and_body() {
        let mut scene = Scene::new(100.0, 200.0);
        let text = |scene: &mut Scene, y: f64, text: &str| scene.text((0.0, y), Align::Left, 10.0, INK, text);
        text(&mut scene, 10.0, "title");
        text(&mut scene, 40.0, "legend");
        text(&mut scene, 60.0, "note");
        text(&mut scene, 120.0, "body");
        scene.heading = HeadingExtent { legend: 1..2, legend_top: 30.0, body: 3, body_top: 80.0, legend_height: 20.0 };
        let bare = scene.bare();
        let texts = bare.primitives.iter().map(|primitive| match primitive {
            Primitive::Text(text) => (text.text.clone(), text.at.1),
            other => panic!("{other:?}"),
        });
        assert_eq!(texts.collect::<Vec<_>>(), [("legend".to_string(), 16.0), ("body".to_string(), 66.0)]);
        assert_eq!(bare.size, (100.0, 146.0));
    }
}
