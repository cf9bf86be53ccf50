//! Score against effective parameters: one panel a task, and the average where all eight tasks are there.

use crate::analysis::columns::{TaskColumn, task_columns};
use crate::analysis::frame::Collected;
use crate::analysis::frame::group::Protocol;
use crate::analysis::stats::{mean, sample_std};
use crate::analysis::summary::{MethodRow, summarise};
use crate::error::Result;
use crate::report::figures::Figure;
use crate::report::plot::axes::{Panel, Ticks, range};
use crate::report::plot::layout::{Heading, Sheet, look};
use crate::report::plot::scene::{Point, Scene};

/// Score against effective parameters.
pub struct ScoreParameters;

/// A method in a panel.
struct Dot {
    row: usize,
    parameters: (f64, f64),
    score: (f64, f64),
    collapsed: bool,
}

impl Figure for ScoreParameters {
    fn name(&self) -> &'static str {
        "score_parameters"
    }

    fn title(&self) -> &'static str {
        "Score against effective parameters"
    }

    fn scene(&self, collected: &Collected) -> Result<Option<Scene>> {
        let results = collected.results()?;
        let columns = task_columns(&results);
        let rows = summarise(&results, &columns);
        let panels = panels(&rows, &columns);
        let (Some(first), false) = (results.first(), panels.is_empty()) else { return Ok(None) };
        let protocol = Protocol::of(first);
        let heading = Heading {
            title: self.title(),
            protocol: &protocol,
            legend: rows.iter().enumerate().map(|(index, row)| (index, row.title.clone())).collect(),
            notes: notes(&rows, &columns),
        };
        let cell: Point = if panels.len() == 1 { (640.0, 380.0) } else { (380.0, 230.0) };
        let mut sheet = Sheet::new(&heading, panels.len(), 3, cell);
        for (index, (title, dots)) in panels.iter().enumerate() {
            let corner = sheet.corner(index);
            draw_panel(&mut sheet.scene, corner, cell, title, dots);
        }
        Ok(Some(sheet.scene))
    }
}

fn panels(rows: &[MethodRow], columns: &[TaskColumn]) -> Vec<(String, Vec<Dot>)> {
    let of_task = |column: &TaskColumn| {
        let dots: Vec<Dot> = rows.iter().enumerate().filter_map(|(i, row)| task_dot(i, row, &column.name)).collect();
        (column.title.clone(), dots)
    };
    let averages: Vec<Dot> = rows.iter().enumerate().filter_map(|(i, row)| average_dot(i, row)).collect();
    let tasks = columns.iter().map(of_task);
    tasks.chain([("Average of the eight tasks".to_string(), averages)]).filter(|(_, dots)| !dots.is_empty()).collect()
}

fn task_dot(index: usize, row: &MethodRow, task: &str) -> Option<Dot> {
    let cell = row.cells.get(task)?;
    let scores: Vec<f64> = cell.scores.iter().map(|score| score.score()).collect();
    let of_runs = row.runs.iter().filter(|run| run.task == task).filter_map(|run| run.effective);
    dot(index, &of_runs.map(|n| n as f64).collect::<Vec<_>>(), &scores, cell.collapsed())
}

fn average_dot(index: usize, row: &MethodRow) -> Option<Dot> {
    let average = row.average().0?;
    let seeds: Vec<f64> = row.seed_averages().iter().map(|(_, value)| *value).collect();
    let parameters: Vec<f64> = row.runs.iter().filter_map(|run| run.effective.map(|n| n as f64)).collect();
    let collapsed = row.cells.values().any(|cell| cell.collapsed());
    let scores = if seeds.is_empty() { vec![average] } else { seeds };
    dot(index, &parameters, &scores, collapsed)
}

fn dot(row: usize, parameters: &[f64], scores: &[f64], collapsed: bool) -> Option<Dot> {
    let with_spread = |values: &[f64]| Some((mean(values)?, sample_std(values).unwrap_or(0.0)));
    Some(Dot { row, parameters: with_spread(parameters)?, score: with_spread(scores)?, collapsed })
}

fn draw_panel(scene: &mut Scene, corner: Point, cell: Point, title: &str, dots: &[Dot]) {
    let ends = |(centre, spread): (f64, f64)| [centre - spread, centre + spread];
    let x = range(dots.iter().flat_map(|dot| ends(dot.parameters))).unwrap_or((0.0, 1.0));
    let y = range(dots.iter().flat_map(|dot| ends(dot.score))).unwrap_or((0.0, 1.0));
    let panel = Panel::new(corner, cell, x, y);
    panel.axes(scene, title, Ticks::Counts);
    for dot in dots {
        let (color, mark) = look(dot.row);
        let [left, right] = ends(dot.parameters);
        let [low, high] = ends(dot.score);
        scene.path(vec![panel.map(left, dot.score.0), panel.map(right, dot.score.0)], color, 1.5, 0.8);
        scene.path(vec![panel.map(dot.parameters.0, low), panel.map(dot.parameters.0, high)], color, 1.5, 0.8);
        scene.mark(panel.map(dot.parameters.0, dot.score.0), mark, color, 5.0, dot.collapsed);
    }
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
