//! Labels beside points: none covers a marker or another label, as far as there is room.

use crate::report::plot::render::text_width;
use crate::report::plot::scene::{Align, Point, Rgb, Scene};

/// Font size of a label.
const SIZE: f64 = 10.5;
/// Half the width of a marker with a little space around it.
const MARKER: f64 = 6.0;
/// Places around a point that are tried one after the other: direction to the right and down.
const PLACES: [Point; 8] =
    [(1.0, -1.0), (-1.0, -1.0), (1.0, 1.0), (-1.0, 1.0), (0.0, -1.6), (0.0, 1.6), (1.4, 0.0), (-1.4, 0.0)];
/// Distances from the point that are tried, in pixels.
const DISTANCES: [f64; 3] = [8.0, 14.0, 22.0];

/// A text that belongs to a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Label {
    /// The point.
    pub at: Point,
    /// Its text.
    pub text: String,
    /// Its colour.
    pub color: Rgb,
}

/// An upright rectangle: left, top, right, bottom.
type Frame = [f64; 4];

/// Draws a label beside each point; every point has a marker.
pub fn draw(scene: &mut Scene, labels: Vec<Label>) {
    let mut taken: Vec<Frame> = labels.iter().map(|label| around(label.at, MARKER, MARKER)).collect();
    for label in labels {
        let half = text_width(&label.text, SIZE) / 2.0;
        let centres = DISTANCES.iter().flat_map(|by| PLACES.map(|place| beside(label.at, place, *by, half)));
        let covered = |centre: &Point| {
            let frame = around(*centre, half, SIZE / 2.0);
            taken.iter().filter(|other| overlap(&frame, other)).count()
        };
        // The first of the best: `min_by_key` gives the first of equal ones.
        let Some(centre) = centres.min_by_key(covered) else { continue };
        taken.push(around(centre, half, SIZE / 2.0));
        scene.text(centre, Align::Center, SIZE, label.color, label.text);
    }
}

/// Centre of a text of half a width that lies beside a point.
fn beside(at: Point, (right, down): Point, by: f64, half: f64) -> Point {
    (at.0 + right * by + right.signum() * f64::from(right != 0.0) * half, at.1 + down * by)
}

fn around((x, y): Point, half_width: f64, half_height: f64) -> Frame {
    [x - half_width, y - half_height, x + half_width, y + half_height]
}

fn overlap(a: &Frame, b: &Frame) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::scene::{GREY, Primitive};

    fn label(x: f64, y: f64, text: &str) -> Label {
        Label { at: (x, y), text: text.into(), color: GREY }
    }

    fn frames(labels: Vec<Label>) -> Vec<Frame> {
        let mut scene = Scene::new(400.0, 300.0);
        draw(&mut scene, labels);
        let frame = |primitive: &Primitive| match primitive {
            Primitive::Text(text) => Some(around(text.at, text_width(&text.text, SIZE) / 2.0, SIZE / 2.0)),
            _ => None,
        };
        scene.primitives.iter().filter_map(frame).collect()
    }

    #[test]
    fn no_label_covers_another_or_a_marker() {
        // Two lines that meet, as two methods of the same score do.
        let crowd =
            [(100.0, 100.0, "1"), (112.0, 92.0, "2"), (150.0, 100.0, "8"), (152.0, 100.0, "4"), (154.0, 101.0, "16")];
        let crowd: Vec<Label> = crowd.map(|(x, y, text)| label(x, y, text)).to_vec();
        let marks: Vec<Frame> = crowd.iter().map(|label| around(label.at, MARKER, MARKER)).collect();
        let frames = frames(crowd);
        assert_eq!(frames.len(), 5);
        for (index, frame) in frames.iter().enumerate() {
            assert!(!marks.iter().any(|mark| overlap(frame, mark)), "{index} covers a marker");
            assert!(!frames[..index].iter().any(|other| overlap(frame, other)), "{index} covers a label");
        }
    }

    #[test]
    fn a_label_with_room_stands_above_and_right_of_its_point() {
        let [left, top, right, bottom] = frames(vec![label(50.0, 50.0, "16")])[0];
        assert!(left > 50.0 && right > left && top < bottom && bottom < 50.0);
    }
}
