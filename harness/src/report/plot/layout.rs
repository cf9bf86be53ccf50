//! Parts that all figures share: colours and markers of methods, the heading with its legend, the grid of panels.

use crate::analysis::frame::group::ReportGroup;
use crate::report::plot::render::{fit, text_width};
use crate::report::plot::scene::{Align, GREY, HeadingExtent, INK, Mark, Point, Rgb, Scene};

/// Okabe and Ito's colours, distinct to colour-blind eyes too.
const COLORS: [Rgb; 7] =
    [(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (90, 90, 90)];
const MARKS: [Mark; 4] = [Mark::Circle, Mark::Square, Mark::Triangle, Mark::Diamond];

const MARGIN: f64 = 18.0;
const HEADING: f64 = 16.0;
const LEGEND: f64 = 13.0;
const LINE: f64 = 22.0;

/// Colour and marker of the method row with this index.
pub fn series_style(index: usize) -> (Rgb, Mark) {
    (COLORS[index % COLORS.len()], MARKS[index % MARKS.len()])
}

/// A figure made of a heading and a grid of equal cells.
pub struct PanelGrid {
    /// Drawing so far.
    pub scene: Scene,
    top: f64,
    columns: usize,
    cell: Point,
}

/// Lines above the panels.
pub struct Heading<'a> {
    /// Title of the figure.
    pub title: &'a str,
    /// Group of its runs.
    pub group: &'a ReportGroup,
    /// Method rows of the legend, each with its index for [`series_style`].
    pub legend: Vec<(usize, String)>,
    /// Further lines.
    pub notes: Vec<String>,
}

impl PanelGrid {
    /// A grid for `cells` cells of size `cell`, at most `columns` in a row.
    pub fn new(heading: &Heading, cells: usize, columns: usize, cell: Point) -> Self {
        let columns = columns.min(cells).max(1);
        let width = (2.0 * MARGIN + columns as f64 * cell.0).max(680.0);
        let mut scene = Scene::new(width, 0.0);
        let top = draw_heading(&mut scene, heading, width);
        scene.size.1 = top + cells.div_ceil(columns) as f64 * cell.1 + MARGIN;
        PanelGrid { scene, top, columns, cell }
    }

    /// Upper left corner of a cell.
    pub fn corner(&self, index: usize) -> Point {
        let (row, column) = (index / self.columns, index % self.columns);
        (MARGIN + column as f64 * self.cell.0, self.top + row as f64 * self.cell.1)
    }
}

fn draw_heading(scene: &mut Scene, heading: &Heading, width: f64) -> f64 {
    let inner = width - 2.0 * MARGIN;
    let mut y = MARGIN + HEADING / 2.0;
    scene.text((MARGIN, y), Align::Left, HEADING, INK, fit(heading.title, HEADING, inner));
    y += LINE;
    scene.text((MARGIN, y), Align::Left, LEGEND, GREY, fit(&heading.group.title(), LEGEND, inner));
    y += LINE + 2.0;
    let (legend, legend_top) = (scene.primitives.len(), y - LINE / 2.0);
    let mut x = MARGIN;
    for (index, name) in &heading.legend {
        let name = fit(name, LEGEND, inner - 20.0);
        let wide = text_width(&name, LEGEND) * 1.05 + 40.0;
        if x > MARGIN && x + wide - 20.0 > width - MARGIN {
            x = MARGIN;
            y += LINE;
        }
        let (color, mark) = series_style(*index);
        scene.mark((x + 6.0, y), mark, color, 5.0, false);
        scene.text((x + 18.0, y), Align::Left, LEGEND, INK, name);
        x += wide;
    }
    if !heading.legend.is_empty() {
        y += LINE;
    }
    let (legend, legend_height) = (legend..scene.primitives.len(), y - LINE / 2.0 - legend_top);
    for line in heading.notes.iter().flat_map(|note| wrapped(note, inner)) {
        scene.text((MARGIN, y), Align::Left, LEGEND - 1.0, GREY, line);
        y += LINE - 4.0;
    }
    let (body, body_top) = (scene.primitives.len(), y + 4.0);
    scene.heading = HeadingExtent { legend, legend_top, body, body_top, legend_height };
    body_top
}

/// Breaks a note at blanks so that each line fits.
fn wrapped(note: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in note.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        let longer = if line.is_empty() { word.to_string() } else { format!("{line} {word}") };
        if line.is_empty() || text_width(&longer, LEGEND - 1.0) * 1.05 <= width {
            *line = longer;
        } else {
            lines.push(word.to_string());
        }
    }
    lines
}
