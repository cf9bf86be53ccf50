//! Figures as primitives with places, in logical pixels from the top left corner. Nothing here knows a backend.

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
        Scene { size: (width, height), primitives: Vec::new(), spots: Vec::new() }
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
