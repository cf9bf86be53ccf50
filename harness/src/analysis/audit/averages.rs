//! Printed averages against those that follow from a row's cells, by the formulas that GLUE tables use.

use serde::Serialize;

use crate::analysis::audit::printed::{Cell, PrintedRow};
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::stats::mean;

/// Word for an average that follows from its cells.
pub const FOLLOWS: &str = "follows";
/// Word for one that does not.
pub const DOES_NOT_FOLLOW: &str = "does not follow";
/// Slack of the comparison, for doubles.
const SLACK: f64 = 1e-9;

frame_rows! {
    /// The average of one row.
    #[derive(Serialize)]
    pub struct AverageRow {
        /// Table.
        table: String,
        /// Row label.
        label: String,
        /// The average as printed.
        printed: String,
        /// Tasks with a number.
        tasks: u64,
        /// Formula: the first that gives the average; the nearest where none does.
        formula: String,
        /// Average by that formula.
        computed: f64,
        /// Printed less computed.
        difference: f64,
        /// The largest difference that rounding of the cells and of the average explains.
        tolerance: f64,
        /// `follows` or `does not follow`.
        word: String,
    }
}

/// An average of the numbers of a row.
type Formula = fn(&PrintedRow) -> Option<f64>;

/// Formulas in the order they are tried: the convention of GLUE and of both papers first (spec §4.3).
const FORMULAS: [(&str, Formula); 6] = [
    ("mean over tasks, each the mean of its numbers", |row| over_tasks(row, |_, numbers| mean(numbers))),
    ("mean over tasks, the first number of each", |row| over_tasks(row, |_, numbers| numbers.first().copied())),
    ("mean over tasks, the last number of each", |row| over_tasks(row, |_, numbers| numbers.last().copied())),
    ("mean over tasks, the mean of MNLI's numbers and the first of each other", |row| with_mean_of("mnli", row)),
    ("mean over tasks, the mean of QQP's numbers and the first of each other", |row| with_mean_of("qqp", row)),
    ("mean over all numbers", |row| mean(&row.cells.iter().map(|cell| cell.value.value()).collect::<Vec<_>>())),
];

fn with_mean_of(averaged: &str, row: &PrintedRow) -> Option<f64> {
    over_tasks(row, |task, numbers| if task == averaged { mean(numbers) } else { numbers.first().copied() })
}

/// Mean over the tasks of a row, each with a score of its numbers.
fn over_tasks(row: &PrintedRow, score: impl Fn(&str, &[f64]) -> Option<f64>) -> Option<f64> {
    let of_task = |(task, cells): &(&str, Vec<&Cell>)| {
        score(task, &cells.iter().map(|cell| cell.value.value()).collect::<Vec<_>>())
    };
    mean(&row.tasks().iter().map(of_task).collect::<Option<Vec<_>>>()?)
}

/// The average of a row; none without a printed one, or of fewer than two tasks.
pub fn average_row(row: &PrintedRow) -> Option<AverageRow> {
    let (printed, tasks) = (row.average?, row.tasks().len());
    if tasks < 2 {
        return None;
    }
    let rounding = row.cells.iter().map(|cell| cell.value.half_unit()).fold(0.0, f64::max);
    let tolerance = printed.half_unit() + rounding;
    let computed = |(name, formula): &(&'static str, Formula)| Some((*name, formula(row)?));
    let found: Vec<(&str, f64)> = FORMULAS.iter().filter_map(computed).collect();
    let distance = |value: f64| (printed.value() - value).abs();
    let fitting = found.iter().find(|(_, value)| distance(*value) <= tolerance + SLACK);
    let nearest = || found.iter().min_by(|a, b| distance(a.1).total_cmp(&distance(b.1)));
    let (formula, computed) = fitting.or_else(nearest).copied()?;
    Some(AverageRow {
        table: row.table.clone(),
        label: row.label.clone(),
        printed: printed.to_string(),
        tasks: tasks as u64,
        formula: formula.into(),
        computed,
        difference: printed.value() - computed,
        tolerance,
        word: if fitting.is_some() { FOLLOWS } else { DOES_NOT_FOLLOW }.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::audit::read::parse;

    fn of(text: &str) -> Option<AverageRow> {
        average_row(&parse("mine.csv", text).unwrap()[0])
    }

    /// A row whose formulas all give another average: MNLI 80/84, QQP 90/70, RTE 60.
    fn with(average: &str) -> AverageRow {
        of(&format!("label,mnli,qqp,rte,average\nours,80.0/84.0,90.0/70.0,60.0,{average}\n")).unwrap()
    }

    #[test]
    fn each_formula_is_found() {
        for (average, formula) in ["74.00", "76.67", "71.33", "77.33", "73.33", "76.80"].into_iter().zip(FORMULAS) {
            let row = with(average);
            assert_eq!((row.formula.as_str(), row.word.as_str(), row.tasks), (formula.0, FOLLOWS, 3), "{average}");
        }
    }

    #[test]
    fn another_average_does_not_follow_and_names_the_nearest_formula() {
        let row = with("74.50");
        assert_eq!((row.word.as_str(), row.formula.as_str()), (DOES_NOT_FOLLOW, FORMULAS[0].0));
        assert!((row.difference - 0.5).abs() < 1e-9);
        // Cells of one decimal and an average of two: 0.05 and 0.005.
        assert!((row.tolerance - 0.055).abs() < 1e-12);
        assert_eq!((with("74.05").word.as_str(), with("74.06").word.as_str()), (FOLLOWS, DOES_NOT_FOLLOW));
    }

    #[test]
    fn nothing_is_said_without_an_average_or_of_one_task() {
        assert_eq!(of("label,rte,mrpc\nours,60.0,70.0\n"), None);
        assert_eq!(of("label,rte,average\nours,60.0,60.0\n"), None);
    }
}
