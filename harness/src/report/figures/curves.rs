//! Training curves: for each task the selection metric on the validation split, and the task loss below it.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::columns::{TaskColumn, task_columns};
use crate::analysis::frame::group::Protocol;
use crate::analysis::frame::{Collected, EpochPoint, EvalPoint, ResultRow, rows};
use crate::analysis::stats::mean;
use crate::analysis::summary::{MethodRow, summarise};
use crate::error::Result;
use crate::report::figures::Figure;
use crate::report::plot::axes::{Panel, Ticks, range};
use crate::report::plot::layout::{Heading, Sheet, look};
use crate::report::plot::scene::{Point, Scene};

const COLUMNS: usize = 4;

/// Training curves.
pub struct Curves;

/// One run in a panel.
struct Curve {
    row: usize,
    points: Vec<Point>,
    collapsed: bool,
    done: bool,
}

/// One panel.
struct Plot {
    title: String,
    curves: Vec<Curve>,
}

impl Figure for Curves {
    fn name(&self) -> &'static str {
        "training_curves"
    }

    fn title(&self) -> &'static str {
        "Training curves by epoch"
    }

    fn scene(&self, collected: &Collected) -> Result<Option<Scene>> {
        let results = collected.results()?;
        let columns = task_columns(&results);
        let methods = summarise(&results, &columns);
        let evals = rows::<EvalPoint>(&collected.evals)?;
        let epochs = rows::<EpochPoint>(&collected.epochs)?;
        let pairs: Vec<(Plot, Plot)> = columns
            .iter()
            .map(|column| (metric_plot(column, &methods, &evals), loss_plot(column, &methods, &epochs)))
            .filter(|(metric, loss)| !(metric.curves.is_empty() && loss.curves.is_empty()))
            .collect();
        let (Some(first), false) = (results.first(), pairs.is_empty()) else { return Ok(None) };
        let protocol = Protocol::of(first);
        let heading = Heading {
            title: self.title(),
            protocol: &protocol,
            legend: methods.iter().enumerate().map(|(index, row)| (index, row.title.clone())).collect(),
            notes: vec![
                "Above: selection metric on the validation split; below: mean task loss of the epoch. Thin: one run \
                 (dashed: collapsed, failed or cut off). Thick: mean over finished runs."
                    .into(),
            ],
        };
        Ok(Some(draw(&heading, &pairs)))
    }
}

/// Rows of panels alternate: metrics of up to [`COLUMNS`] tasks, then their losses.
fn draw(heading: &Heading, pairs: &[(Plot, Plot)]) -> Scene {
    let columns = pairs.len().min(COLUMNS);
    let cell: Point = if columns == 1 { (640.0, 250.0) } else { (300.0, 200.0) };
    let bands = pairs.len().div_ceil(columns);
    let mut sheet = Sheet::new(heading, bands * 2 * columns, columns, cell);
    for (index, (metric, loss)) in pairs.iter().enumerate() {
        let (band, column) = (index / columns, index % columns);
        for (below, plot) in [metric, loss].into_iter().enumerate() {
            let corner = sheet.corner((2 * band + below) * columns + column);
            draw_plot(&mut sheet.scene, corner, cell, plot);
        }
    }
    sheet.scene
}

fn draw_plot(scene: &mut Scene, corner: Point, cell: Point, plot: &Plot) {
    let points = || plot.curves.iter().flat_map(|curve| &curve.points);
    let x = range(points().map(|p| p.0)).unwrap_or((0.0, 1.0));
    let y = range(points().map(|p| p.1)).unwrap_or((0.0, 1.0));
    let panel = Panel::new(corner, cell, x, y);
    panel.axes(scene, &plot.title, Ticks::Whole);
    for curve in &plot.curves {
        let points: Vec<Point> = curve.points.iter().map(|p| panel.map(p.0, p.1)).collect();
        let color = look(curve.row).0;
        if curve.done && !curve.collapsed {
            scene.path(points, color, 1.0, 0.35);
        } else {
            scene.dashes(&points, color, 1.0, 0.6);
        }
    }
    let methods: BTreeSet<usize> = plot.curves.iter().map(|curve| curve.row).collect();
    for row in methods {
        let (color, mark) = look(row);
        let points: Vec<Point> = mean_curve(plot, row).iter().map(|p| panel.map(p.0, p.1)).collect();
        scene.path(points.clone(), color, 2.5, 1.0);
        for point in points.iter().take(12) {
            scene.mark(*point, mark, color, 2.5, false);
        }
    }
}

/// Mean over the finished runs at each epoch that all of them have.
fn mean_curve(plot: &Plot, row: usize) -> Vec<Point> {
    let finished: Vec<&Curve> = plot.curves.iter().filter(|curve| curve.row == row && curve.done).collect();
    let mut at: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (x, y) in finished.iter().flat_map(|curve| &curve.points) {
        at.entry((x * 1e4).round() as i64).or_default().push(*y);
    }
    let complete = at.into_iter().filter(|(_, values)| values.len() == finished.len());
    complete.filter_map(|(x, values)| Some((x as f64 / 1e4, mean(&values)?))).collect()
}

fn metric_plot(column: &TaskColumn, methods: &[MethodRow], evals: &[EvalPoint]) -> Plot {
    let (dev_set, metric) = selection(column, methods);
    let chosen = |point: &&EvalPoint| point.split == "validation" && point.dev_set == dev_set && point.metric == metric;
    let points = by_run(evals.iter().filter(chosen).map(|p| (p.run.as_str(), (p.epoch, 100.0 * p.value))));
    Plot { title: format!("{}: {metric}", column.title), curves: curves(column, methods, &points) }
}

fn loss_plot(column: &TaskColumn, methods: &[MethodRow], epochs: &[EpochPoint]) -> Plot {
    let points = by_run(epochs.iter().map(|p| (p.run.as_str(), (p.epoch as f64, p.task_loss))));
    Plot { title: format!("{}: task loss", column.title), curves: curves(column, methods, &points) }
}

/// First development set of a task and the metric that selects on it.
fn selection(column: &TaskColumn, methods: &[MethodRow]) -> (String, String) {
    let registered = datasets::tasks::TASKS.iter().find(|task| task.name == column.name);
    let set = registered.and_then(|task| task.dev_sets.first()).map_or("dev", |set| set.name);
    let metric = registered.map(|task| task.selection_metric.name().to_string());
    let seen =
        || methods.iter().flat_map(|m| &m.runs).find(|r| r.task == column.name && !r.selection_metric.is_empty());
    let metric = metric.or_else(|| seen().map(|run| run.selection_metric.clone()));
    (set.to_string(), metric.unwrap_or_default())
}

fn by_run<'a>(points: impl Iterator<Item = (&'a str, Point)>) -> BTreeMap<&'a str, Vec<Point>> {
    let mut runs: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
    for (run, point) in points.filter(|(_, p)| p.1.is_finite()) {
        runs.entry(run).or_default().push(point);
    }
    runs
}

fn curves(column: &TaskColumn, methods: &[MethodRow], points: &BTreeMap<&str, Vec<Point>>) -> Vec<Curve> {
    let of_run = |row: usize, run: &ResultRow| {
        let mut points = points.get(run.run.as_str())?.clone();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        Some(Curve { row, points, collapsed: !run.collapse.is_empty(), done: run.status == "done" })
    };
    let of_method = |(row, method): (usize, &MethodRow)| {
        let runs = method.runs.iter().filter(|run| run.task == column.name);
        runs.filter_map(|run| of_run(row, run)).collect::<Vec<_>>()
    };
    methods.iter().enumerate().flat_map(of_method).collect()
}
