//! Score against effective parameters: one panel a task, and the average where all eight tasks are there.

use crate::analysis::columns::TaskColumn;
use crate::analysis::results::GroupResults;
use crate::analysis::score_parameters::{ScorePoint, score_panels};
use crate::analysis::summary::MethodRow;
use crate::report::figure::Figure;
use crate::report::plot::axes::{Panel, Ticks, range};
use crate::report::plot::layout::{Heading, PanelGrid, series_style};
use crate::report::plot::scene::{Point, Scene};
use crate::report::tables::cells::count;

/// Score against effective parameters.
pub struct ScoreParameters;

impl Figure for ScoreParameters {
    fn name(&self) -> &'static str {
        "score_parameters"
    }

    fn title(&self) -> &'static str {
        "Score against effective parameters"
    }

    fn draw(&self, group: &GroupResults) -> Option<Scene> {
        let panels = score_panels(group);
        if panels.is_empty() {
            return None;
        }
        let heading = Heading {
            title: self.title(),
            group: &group.group,
            legend: group.methods.iter().enumerate().map(|(index, row)| (index, row.title.clone())).collect(),
            notes: notes(&group.methods, &group.columns),
        };
        let cell: Point = if panels.len() == 1 { (640.0, 380.0) } else { (380.0, 230.0) };
        let mut grid = PanelGrid::new(&heading, panels.len(), 3, cell);
        for (index, (title, points)) in panels.iter().enumerate() {
            let corner = grid.corner(index);
            draw_panel(&mut grid.scene, corner, cell, (title, points), &group.methods);
        }
        Some(grid.scene)
    }
}

fn draw_panel(
    scene: &mut Scene,
    corner: Point,
    cell: Point,
    (title, points): (&str, &[ScorePoint]),
    methods: &[MethodRow],
) {
    let ends = |(centre, spread): (f64, f64)| [centre - spread, centre + spread];
    let x = range(points.iter().flat_map(|point| ends(point.parameters))).unwrap_or((0.0, 1.0));
    let y = range(points.iter().flat_map(|point| ends(point.score))).unwrap_or((0.0, 1.0));
    let panel = Panel::new(corner, cell, x, y);
    panel.axes(scene, title, Ticks::Counts);
    for point in points {
        let (color, mark) = series_style(point.row);
        let [left, right] = ends(point.parameters);
        let [low, high] = ends(point.score);
        scene.path(vec![panel.map(left, point.score.0), panel.map(right, point.score.0)], color, 1.5, 0.8);
        scene.path(vec![panel.map(point.parameters.0, low), panel.map(point.parameters.0, high)], color, 1.5, 0.8);
        let at = panel.map(point.parameters.0, point.score.0);
        scene.mark(at, mark, color, 5.0, point.collapsed);
        scene.spot(at, 9.0, spot_text(title, point, methods));
    }
}

/// `RTE, LoRA: 54.68 ± 0.00 points, 331.8k effective parameters`; one seed has no deviation.
fn spot_text(title: &str, point: &ScorePoint, methods: &[MethodRow]) -> String {
    let method = methods.get(point.row).map_or("", |row| row.title.as_str());
    let (score, parameters) = (point.score, point.parameters.0);
    let collapsed = if point.collapsed { ", a run of them collapsed" } else { "" };
    let deviation = if point.seeds > 1 { format!(" ± {:.2}", score.1) } else { String::new() };
    format!(
        "{title}, {method}: {:.2}{deviation} points, {} effective parameters{collapsed}",
        score.0,
        count(parameters)
    )
}

fn notes(rows: &[MethodRow], columns: &[TaskColumn]) -> Vec<String> {
    let mut notes = vec![
        "Up: score in points of 100 (mean ± standard deviation over seeds). Right: effective parameters. Hollow: a run \
         among them collapsed."
            .to_string(),
    ];
    let missing = columns.iter().flat_map(|column| {
        let empty = |row: &&MethodRow| row.cells.get(&column.name).is_some_and(|cell| cell.scores.is_empty());
        rows.iter().filter(empty).map(|row| format!("{} on {}", row.title, column.title))
    });
    let missing: Vec<String> = missing.collect();
    if !missing.is_empty() {
        notes.push(format!("Without a finished run: {}.", missing.join(", ")));
    }
    notes
}
