//! Score against parameters along the ranks of a sweep (the curve of the paper's Table 2): one panel a task, and the average.

use std::collections::BTreeMap;

use crate::analysis::rank_sweep::{SweepRow, sweep_rows};
use crate::analysis::results::GroupResults;
use crate::analysis::score_parameters::{ScorePoint, score_panels};
use crate::analysis::summary::{method_order, method_title};
use crate::report::figure::Figure;
use crate::report::plot::axes::{Panel, Ticks, range};
use crate::report::plot::labels::{self, Label};
use crate::report::plot::layout::{Heading, PanelGrid, series_style};
use crate::report::plot::scene::{Point, Scene};

/// Score against parameters, a line a method.
pub struct RankSweep;

impl Figure for RankSweep {
    fn name(&self) -> &'static str {
        "rank_sweep"
    }

    fn title(&self) -> &'static str {
        "Score against parameters by rank"
    }

    fn draw(&self, group: &GroupResults) -> Option<Scene> {
        let rows = sweep_rows(group);
        let mut panels = score_panels(group);
        panels.iter_mut().for_each(|panel| panel.1.retain(|point| rows.iter().any(|row| row.index == point.row)));
        panels.retain(|panel| !panel.1.is_empty());
        if panels.is_empty() {
            return None;
        }
        let methods: BTreeMap<usize, &str> =
            rows.iter().map(|row| (method_order(&row.method.method), row.method.method.as_str())).collect();
        let methods: Vec<&str> = methods.into_values().collect();
        let heading = Heading {
            title: self.title(),
            group: &group.group,
            legend: methods.iter().map(|method| method_title(method)).enumerate().collect(),
            notes: vec![
                "Up: score in points of 100 (mean, line: standard deviation over seeds). Right: values left after pruning. Beside a \
                 point: its rank or maximum rank. Hollow: a run among them collapsed."
                    .into(),
            ],
        };
        let cell: Point = if panels.len() == 1 { (640.0, 380.0) } else { (380.0, 230.0) };
        let mut grid = PanelGrid::new(&heading, panels.len(), 3, cell);
        for (index, (title, points)) in panels.iter().enumerate() {
            let corner = grid.corner(index);
            draw_panel(
                &mut grid.scene,
                Panel::new(corner, cell, x(points), y(points)),
                title,
                points,
                (&rows, &methods),
            );
        }
        Some(grid.scene)
    }
}

fn x(points: &[ScorePoint]) -> (f64, f64) {
    range(points.iter().map(|point| point.parameters.0)).unwrap_or((0.0, 1.0))
}

fn y(points: &[ScorePoint]) -> (f64, f64) {
    range(points.iter().flat_map(|point| [point.score.0 - point.score.1, point.score.0 + point.score.1]))
        .unwrap_or((0.0, 1.0))
}

fn draw_panel(
    scene: &mut Scene,
    panel: Panel,
    title: &str,
    points: &[ScorePoint],
    (rows, methods): (&[SweepRow], &[&str]),
) {
    panel.axes(scene, title, Ticks::Counts);
    let mut beside = Vec::new();
    for (index, method) in methods.iter().enumerate() {
        let (color, mark) = series_style(index);
        let of_method = rows.iter().filter(|row| row.method.method == *method);
        let found = of_method.filter_map(|row| Some((row.rank, points.iter().find(|point| point.row == row.index)?)));
        let found: Vec<(i64, &ScorePoint)> = found.collect();
        let at = |point: &ScorePoint| panel.map(point.parameters.0, point.score.0);
        scene.path(found.iter().map(|(_, point)| at(point)).collect(), color, 2.0, 0.8);
        for (rank, point) in found {
            let end = |score: f64| panel.map(point.parameters.0, score);
            let (low, high) = (end(point.score.0 - point.score.1), end(point.score.0 + point.score.1));
            scene.path(vec![low, high], color, 1.5, 0.8);
            scene.mark(at(point), mark, color, 4.5, point.collapsed);
            beside.push(Label { at: at(point), text: rank.to_string(), color });
        }
    }
    labels::draw(scene, beside);
}
