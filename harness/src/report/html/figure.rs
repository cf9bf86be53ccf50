//! A figure inside the page: its drawing, and over it the points that answer to pointer and keyboard.

use crate::report::formats::html::escaped;
use crate::report::plot::scene::{Scene, Spot};

/// A drawn figure.
pub struct Drawn {
    /// Heading.
    pub title: String,
    /// SVG document.
    pub svg: String,
    /// Points with a text.
    pub spots: Vec<Spot>,
}

impl Drawn {
    /// A scene that was drawn as `svg`.
    pub fn new(title: &str, scene: &Scene, svg: String) -> Self {
        Drawn { title: title.to_string(), svg, spots: scene.spots.clone() }
    }

    /// The figure as HTML. Its texts are hidden from screen readers, which read its points; only the first of them is reached with the
    /// tabulator, the others with the arrow keys.
    pub fn html(&self) -> String {
        let title = escaped(&self.title);
        let (head, body) = self.parts();
        let spots: String = self.spots.iter().enumerate().map(|(index, spot)| circle(index, spot)).collect();
        let hint = if self.spots.is_empty() { "" } else { " Arrow keys move between its points." };
        format!(
            "<figure class=\"drawn\" tabindex=\"0\" role=\"region\" aria-label=\"Figure: {title}\">\n\
             {head} role=\"group\" aria-label=\"{title}.{hint}\"><g aria-hidden=\"true\">{body}</g>\
             <g class=\"spots\">{spots}</g></svg>\n</figure>\n"
        )
    }

    /// The opening tag without its end, and what is inside of the element.
    fn parts(&self) -> (&str, &str) {
        let svg = self.svg.find("<svg").map_or(self.svg.as_str(), |start| &self.svg[start..]);
        let (head, rest) = svg.split_once('>').unwrap_or((svg, ""));
        (head, rest.rsplit_once("</svg>").map_or(rest, |(body, _)| body))
    }
}

fn circle(index: usize, spot: &Spot) -> String {
    let tab = if index == 0 { 0 } else { -1 };
    format!(
        "<circle cx=\"{:.0}\" cy=\"{:.0}\" r=\"{:.0}\" tabindex=\"{tab}\" role=\"img\" aria-label=\"{}\"/>",
        spot.at.0,
        spot.at.1,
        spot.radius,
        escaped(&spot.text)
    )
}
