//! Memorisation and generalisation against the values left, along a sparsifying schedule (the paper's Fig. 3).

use crate::analysis::results::GroupResults;
use crate::analysis::schedule::{KEPT, ScheduleCurve, StagePoint, TaskSchedule, schedules};
use crate::report::figure::Figure;
use crate::report::plot::axes::{Panel, Ticks, range};
use crate::report::plot::layout::{Heading, PanelGrid, series_style};
use crate::report::plot::scene::{GREY, Point, Scene};

const CELL: Point = (460.0, 260.0);

/// Name of a score, and how it is read off a stage.
type Score = (&'static str, fn(&StagePoint) -> f64);

/// One row of panels a task: generalisation, then memorisation.
pub struct Schedule;

impl Figure for Schedule {
    fn name(&self) -> &'static str {
        "schedule"
    }

    fn title(&self) -> &'static str {
        "Memorisation and generalisation along the sparsifying schedule"
    }

    fn draw(&self, group: &GroupResults) -> Option<Scene> {
        let tasks = schedules(group);
        let mut curves: Vec<&ScheduleCurve> = tasks.iter().flat_map(|task| &task.curves).collect();
        curves.retain(|curve| !curve.points.is_empty());
        if curves.is_empty() {
            return None;
        }
        curves.sort_by_key(|curve| curve.row);
        curves.dedup_by_key(|curve| curve.row);
        let heading = Heading {
            title: self.title(),
            group: &group.group,
            legend: curves.iter().map(|curve| (curve.row, curve.title.clone())).collect(),
            notes: vec![format!(
                "Up: score at the end of each stage in percent of the first stage's, mean over runs; memorisation on up to 1,000 \
                 training rows, generalisation on the validation split. Right: values left after pruning. Grey: {KEPT:.0} %. \
                 Hollow: the turning point, the last stage before generalisation first falls below it."
            )],
        };
        let mut grid = PanelGrid::new(&heading, 2 * tasks.len(), 2, CELL);
        for (index, task) in tasks.iter().enumerate() {
            let panels: [Score; 2] =
                [("generalisation", |point| point.generalisation), ("memorisation", |point| point.memorisation)];
            for (column, (name, of)) in panels.into_iter().enumerate() {
                let corner = grid.corner(2 * index + column);
                draw_panel(&mut grid.scene, corner, &format!("{}: {name} in percent", task.title), task, of);
            }
        }
        Some(grid.scene)
    }
}

fn draw_panel(scene: &mut Scene, corner: Point, title: &str, task: &TaskSchedule, of: fn(&StagePoint) -> f64) {
    let points = || task.curves.iter().flat_map(|curve| &curve.points);
    let x = range(points().map(|point| point.effective)).unwrap_or((0.0, 1.0));
    let y = range(points().map(of).chain([KEPT, 100.0])).unwrap_or((0.0, 1.0));
    let panel = Panel::new(corner, CELL, x, y);
    panel.axes(scene, title, Ticks::Counts);
    scene.dashes(&[panel.map(x.0, KEPT), panel.map(x.1, KEPT)], GREY, 1.0, 0.8);
    for curve in &task.curves {
        let (color, mark) = series_style(curve.row);
        let at = |point: &StagePoint| panel.map(point.effective, of(point));
        scene.path(curve.points.iter().map(at).collect(), color, 2.0, 0.8);
        let turning = curve.turning_point().map(|point| point.stage);
        for point in &curve.points {
            let turns = turning == Some(point.stage);
            scene.mark(at(point), mark, color, if turns { 7.0 } else { 3.5 }, turns);
        }
    }
}
