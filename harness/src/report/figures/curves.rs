//! Training curves: for each task the selection metric on the validation split, and the task loss below it.

use crate::analysis::curves::{MethodCurves, TaskCurves, curves};
use crate::analysis::results::GroupResults;
use crate::analysis::summary::MethodRow;
use crate::report::figure::Figure;
use crate::report::plot::axes::{Panel, Ticks, range};
use crate::report::plot::layout::{Heading, PanelGrid, series_style};
use crate::report::plot::scene::{Point, Scene};

const COLUMNS: usize = 4;
/// Most points of a mean curve that are marked.
const MARKS: usize = 12;

/// Training curves.
pub struct Curves;

impl Figure for Curves {
    fn name(&self) -> &'static str {
        "training_curves"
    }

    fn title(&self) -> &'static str {
        "Training curves by epoch"
    }

    fn draw(&self, group: &GroupResults) -> Option<Scene> {
        let tasks = curves(group);
        if tasks.is_empty() {
            return None;
        }
        let heading = Heading {
            title: self.title(),
            group: &group.group,
            legend: group.methods.iter().enumerate().map(|(index, row)| (index, row.title.clone())).collect(),
            notes: vec![
                "Above: selection metric on the validation split; below: mean task loss of the epoch. Thin: one run \
                 (dashed: collapsed, failed or cut off). Thick: mean over finished runs."
                    .into(),
            ],
        };
        Some(draw(&heading, &tasks, &group.methods))
    }
}

/// Rows of panels alternate: metrics of up to [`COLUMNS`] tasks, then their losses.
fn draw(heading: &Heading, tasks: &[TaskCurves], rows: &[MethodRow]) -> Scene {
    let columns = tasks.len().min(COLUMNS);
    let cell: Point = if columns == 1 { (640.0, 250.0) } else { (300.0, 200.0) };
    let bands = tasks.len().div_ceil(columns);
    let mut grid = PanelGrid::new(heading, bands * 2 * columns, columns, cell);
    for (index, task) in tasks.iter().enumerate() {
        let (band, column) = (index / columns, index % columns);
        let scores = (format!("{}: {}", task.title, task.metric), &task.scores);
        let losses = (format!("{}: task loss", task.title), &task.losses);
        for (below, (title, methods)) in [scores, losses].into_iter().enumerate() {
            let corner = grid.corner((2 * band + below) * columns + column);
            draw_panel(&mut grid.scene, (corner, cell), &title, methods, rows);
        }
    }
    grid.scene
}

fn draw_panel(
    scene: &mut Scene,
    (corner, cell): (Point, Point),
    title: &str,
    methods: &[MethodCurves],
    rows: &[MethodRow],
) {
    let points = || methods.iter().flat_map(|method| &method.curves).flat_map(|curve| &curve.points);
    let x = range(points().map(|p| p.0)).unwrap_or((0.0, 1.0));
    let y = range(points().map(|p| p.1)).unwrap_or((0.0, 1.0));
    let panel = Panel::new(corner, cell, x, y);
    let mapped = |points: &[Point]| points.iter().map(|p| panel.map(p.0, p.1)).collect::<Vec<Point>>();
    panel.axes(scene, title, Ticks::Whole);
    for method in methods {
        let color = series_style(method.row).0;
        for curve in &method.curves {
            let points = mapped(&curve.points);
            if curve.is_sound {
                scene.path(points, color, 1.0, 0.35);
            } else {
                scene.dashes(&points, color, 1.0, 0.6);
            }
        }
    }
    for method in methods {
        let (color, mark) = series_style(method.row);
        let points = mapped(&method.mean);
        scene.path(points.clone(), color, 2.5, 1.0);
        for point in points.iter().take(MARKS) {
            scene.mark(*point, mark, color, 2.5, false);
        }
        let name = rows.get(method.row).map_or("", |row| row.title.as_str());
        for (at, (epoch, value)) in points.iter().zip(&method.mean) {
            scene.spot(*at, 6.0, format!("{title}, {name}, epoch {epoch}: mean {value:.4}"));
        }
    }
}
