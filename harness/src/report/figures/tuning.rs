//! Score against learning rate for every method, seeds as points, the chosen rate marked.

use crate::analysis::columns::TaskColumn;
use crate::analysis::results::GroupResults;
use crate::analysis::stats::mean;
use crate::analysis::summary::method_title;
use crate::analysis::tuning::{Search, Trial, searches};
use crate::report::figure::Figure;
use crate::report::plot::axes::{Panel, Ticks, range};
use crate::report::plot::layout::{Heading, PanelGrid, series_style};
use crate::report::plot::scene::{Point, Scene};

/// Distance of two methods' marks at one rate.
const ASIDE: f64 = 7.0;

/// Score against learning rate.
pub struct ScoreByRate;

impl Figure for ScoreByRate {
    fn name(&self) -> &'static str {
        "score_by_rate"
    }

    fn title(&self) -> &'static str {
        "Score against learning rate"
    }

    fn draw(&self, group: &GroupResults) -> Option<Scene> {
        let searches = searches(group);
        if searches.is_empty() {
            return None;
        }
        let mut methods: Vec<&str> = searches.iter().map(|search| search.method).collect();
        methods.dedup();
        let heading = Heading {
            title: self.title(),
            group: &group.group,
            legend: methods.iter().map(|method| method_title(method)).enumerate().collect(),
            notes: vec![
                "Right: learning rate. Up: test score in points of 100; a small mark is a seed, the line \
                 joins the means. Large and hollow: the trial that validation chose."
                    .into(),
            ],
        };
        let tasks: Vec<&TaskColumn> =
            group.columns.iter().filter(|column| searches.iter().any(|search| search.task == column.name)).collect();
        let cell: Point = if tasks.len() == 1 { (640.0, 380.0) } else { (420.0, 260.0) };
        let mut grid = PanelGrid::new(&heading, tasks.len(), 2, cell);
        for (index, column) in tasks.iter().enumerate() {
            let of_task: Vec<&Search> = searches.iter().filter(|search| search.task == column.name).collect();
            let corner = grid.corner(index);
            draw_panel(&mut grid.scene, (corner, cell), &column.title, &of_task, &methods);
        }
        Some(grid.scene)
    }
}

fn draw_panel(scene: &mut Scene, (corner, cell): (Point, Point), title: &str, of_task: &[&Search], methods: &[&str]) {
    let trials = || of_task.iter().flat_map(|search| &search.trials);
    let x = range(trials().map(|trial| trial.lr.log10())).unwrap_or((-4.0, -2.0));
    let y = range(trials().flat_map(|trial| trial.scores.iter().map(|score| score.score()))).unwrap_or((0.0, 1.0));
    let panel = Panel::new(corner, cell, x, y);
    panel.axes(scene, title, Ticks::Log10);
    for search in of_task {
        let index = methods.iter().position(|method| *method == search.method).unwrap_or(0);
        let (color, mark) = series_style(index);
        // Side by side, or equal scores would hide each other.
        let aside = ASIDE * (index as f64 - (methods.len() as f64 - 1.0) / 2.0);
        let at = |trial: &Trial, score: f64| {
            let (right, down) = panel.map(trial.lr.log10(), score);
            (right + aside, down)
        };
        let middle = |trial: &Trial| mean(&trial.scores.iter().map(|score| score.score()).collect::<Vec<_>>());
        let means = search.trials.iter().filter_map(|trial| Some(at(trial, middle(trial)?)));
        scene.path(means.collect(), color, 2.0, 0.8);
        for trial in &search.trials {
            trial.scores.iter().for_each(|score| scene.mark(at(trial, score.score()), mark, color, 3.0, false));
        }
        if let Some((best, score)) = search.best().and_then(|best| Some((best, middle(best)?))) {
            scene.mark(at(best, score), mark, color, 7.5, true);
        }
    }
}
