//! Lines by step: a panel a task, each run thin and the mean of a method's seeds thick.

use crate::analysis::curves::{CurvePoint, MethodCurves, of_task};
use crate::analysis::frame::run::RunResult;
use crate::analysis::frame::traces::RunTraces;
use crate::analysis::results::GroupResults;
use crate::analysis::traces::MOST_SEEDS;
use crate::report::plot::axes::{Panel, Ticks, range};
use crate::report::plot::layout::{Heading, PanelGrid, series_style};
use crate::report::plot::scene::{Point, Scene};

const COLUMNS: usize = 3;
/// Points of a mean line that are marked and answer in a page, about.
const MARKS: usize = 8;

/// A quantity drawn by step.
pub(super) struct StepLines {
    /// Heading of the figure.
    pub title: &'static str,
    /// The values, in words.
    pub quantity: &'static str,
    /// The first sentences below the heading.
    pub note: &'static str,
    /// A value that the axis reaches whatever the lines do.
    pub from: Option<f64>,
    /// Points of a run.
    pub points: fn(&RunTraces) -> &[CurvePoint],
}

/// Lines of one task.
struct TaskLines<'a> {
    title: &'a str,
    methods: Vec<MethodCurves>,
}

impl StepLines {
    /// The figure of a group; none where no run has such points.
    pub fn draw(&self, group: &GroupResults) -> Option<Scene> {
        let points = |run: &RunResult| {
            group.traces.get(&run.row.run).map_or(Vec::new(), |traces| (self.points)(traces).to_vec())
        };
        let lines = group.columns.iter().map(|column| {
            let methods = of_task(column, &group.methods, points);
            TaskLines { title: &column.title, methods }
        });
        let tasks: Vec<TaskLines> = lines.filter(|task| !task.methods.is_empty()).collect();
        if tasks.is_empty() {
            return None;
        }
        let is_drawn = |row: usize| tasks.iter().flat_map(|task| &task.methods).any(|curves| curves.row == row);
        let titles = group.methods.iter().map(|row| row.title.clone()).enumerate();
        let heading = Heading {
            title: self.title,
            group: &group.group,
            legend: titles.filter(|(row, _)| is_drawn(*row)).collect(),
            notes: vec![format!(
                "{} Right: optimiser steps. Thin: one run (dashed: collapsed), of the first {MOST_SEEDS} seeds at most. Thick: their mean.",
                self.note
            )],
        };
        let cell: Point = if tasks.len() == 1 { (640.0, 320.0) } else { (400.0, 240.0) };
        let mut grid = PanelGrid::new(&heading, tasks.len(), COLUMNS, cell);
        for (index, task) in tasks.iter().enumerate() {
            let corner = grid.corner(index);
            self.draw_panel(&mut grid.scene, (corner, cell), task, group);
        }
        Some(grid.scene)
    }

    fn draw_panel(&self, scene: &mut Scene, (corner, cell): (Point, Point), task: &TaskLines, group: &GroupResults) {
        let points = || task.methods.iter().flat_map(|method| &method.curves).flat_map(|curve| &curve.points);
        let x = range(points().map(|point| point.0).chain([0.0])).unwrap_or((0.0, 1.0));
        let y = range(points().map(|point| point.1).chain(self.from)).unwrap_or((0.0, 1.0));
        let panel = Panel::new(corner, cell, x, y);
        let at = |points: &[CurvePoint]| points.iter().map(|p| panel.map(p.0, p.1)).collect::<Vec<Point>>();
        panel.axes(scene, &format!("{}: {}", task.title, self.quantity), Ticks::Counts);
        for method in &task.methods {
            let color = series_style(method.row).0;
            for curve in &method.curves {
                match curve.is_sound {
                    true => scene.path(at(&curve.points), color, 1.0, 0.3),
                    false => scene.dashes(&at(&curve.points), color, 1.0, 0.6),
                }
            }
        }
        for method in &task.methods {
            let (color, mark) = series_style(method.row);
            scene.path(at(&method.mean), color, 2.0, 1.0);
            let name = group.methods.get(method.row).map_or("", |row| row.title.as_str());
            let every = method.mean.len().div_ceil(MARKS).max(1);
            for (step, value) in method.mean.iter().rev().step_by(every) {
                let place = panel.map(*step, *value);
                scene.mark(place, mark, color, 3.0, false);
                let runs = method.curves.len();
                let text =
                    format!("{}, {name}, step {step}: mean {} of {runs} runs {value:.4}", task.title, self.quantity);
                scene.spot(place, 6.0, text);
            }
        }
    }
}
