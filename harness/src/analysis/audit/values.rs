//! Each number of a table against the means that its setting can print.

use datasets::split::{Policy, sizes};
use serde::Serialize;

use crate::analysis::audit::assumed::Assumed;
use crate::analysis::audit::grim::{Lattice, fewest_runs};
use crate::analysis::audit::printed::{Cell, PrintedRow};
use crate::analysis::frame::typed::frame_rows;

/// Word for a number that a mean can print.
pub const POSSIBLE: &str = "possible";
/// Word for one that none can.
pub const IMPOSSIBLE: &str = "impossible";
/// Word for one that nothing can be said about.
pub const NOT_TESTABLE: &str = "not testable";
/// Reason: the metric is no share of the examples.
const NO_COUNT: &str = "no count over examples";
/// Reason: the step of the means is finer than the last digit.
const TOO_FINE: &str = "on so many examples any value of these decimals is a mean";
/// Reason: nothing says how many examples there are.
const UNKNOWN: &str = "the number of examples is not known";

frame_rows! {
    /// One number, and whether a mean of so many runs on so many examples can print it.
    #[derive(Serialize)]
    pub struct ValueRow {
        /// Table.
        table: String,
        /// Row label.
        label: String,
        /// Task.
        task: String,
        /// Metric; for MNLI the development set.
        metric: String,
        /// The number as printed.
        value: String,
        /// Runs it is assumed to be the mean of.
        runs: u64,
        /// Split that is assumed.
        split: String,
        /// Examples that are scored under that split; null where that is not known.
        rows: Option<u64>,
        /// `possible`, `impossible` or `not testable`.
        word: String,
        /// Reason that it is not testable; empty otherwise.
        reason: String,
        /// The nearest printed means, of a number that is none.
        nearest: String,
        /// Settings whose means print an impossible number: the fewest runs, up to ten, on each part of each split.
        fits: String,
        /// The fewest runs on the same examples that print a possible number.
        fewest_runs: Option<u64>,
    }
}

/// Every number of a row.
pub fn value_rows(row: &PrintedRow, assumed: &Assumed) -> Vec<ValueRow> {
    row.cells.iter().map(|cell| value_row(row, cell, assumed)).collect()
}

fn value_row(row: &PrintedRow, cell: &Cell, assumed: &Assumed) -> ValueRow {
    let rows = examples(cell, assumed.split);
    let lattice = rows.map(|rows| Lattice { runs: assumed.runs, rows });
    let empty = ValueRow {
        table: row.table.clone(),
        label: row.label.clone(),
        task: cell.task.into(),
        metric: cell.metric.clone(),
        value: cell.value.to_string(),
        runs: assumed.runs as u64,
        split: assumed.split.name().into(),
        rows: rows.map(|rows| rows as u64),
        word: NOT_TESTABLE.into(),
        reason: String::new(),
        nearest: String::new(),
        fits: String::new(),
        fewest_runs: None,
    };
    match lattice {
        _ if !cell.is_accuracy => ValueRow { reason: NO_COUNT.into(), ..empty },
        None => ValueRow { reason: UNKNOWN.into(), ..empty },
        Some(lattice) if !lattice.is_testable(cell.value.decimals) => ValueRow { reason: TOO_FINE.into(), ..empty },
        Some(lattice) if lattice.can_print(cell.value) => {
            let fewest = fewest_runs(cell.value, lattice.rows).map(|runs| runs as u64);
            ValueRow { word: POSSIBLE.into(), fewest_runs: fewest, ..empty }
        }
        Some(lattice) => {
            let [below, above] = lattice.neighbours(cell.value);
            ValueRow { word: IMPOSSIBLE.into(), nearest: format!("{below}, {above}"), fits: fits(cell), ..empty }
        }
    }
}

/// Examples that are scored under a split.
pub fn examples(cell: &Cell, split: Policy) -> Option<usize> {
    let task = datasets::tasks::find(cell.task).ok()?;
    Some(sizes(task, cell.set, split)?.test)
}

/// The fewest runs that print a number, on each part of a development set that a split scores or selects on.
fn fits(cell: &Cell) -> String {
    let Ok(task) = datasets::tasks::find(cell.task) else { return String::new() };
    let mut parts: Vec<(usize, String)> = Vec::new();
    for policy in Policy::ALL {
        let Some(sizes) = sizes(task, cell.set, policy) else { continue };
        for (rows, part) in [(sizes.test, "test"), (sizes.validation, "validation")] {
            if !parts.iter().any(|(known, _)| *known == rows) {
                parts.push((rows, format!("split {}, {part}", policy.name())));
            }
        }
    }
    let fit = |(rows, part): &(usize, String)| {
        let runs = fewest_runs(cell.value, *rows)?;
        Some(format!("{runs} {} on {rows} ({part})", if runs == 1 { "run" } else { "runs" }))
    };
    parts.iter().filter_map(fit).collect::<Vec<_>>().join("; ")
}

/// Possible numbers that are assumed to be means of several runs, and how many of them a single run prints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SingleRuns {
    /// Possible numbers.
    pub possible: usize,
    /// Those that a single run prints too.
    pub single: usize,
    /// How many would be expected of honest means: one in k.
    pub expected: f64,
}

impl SingleRuns {
    /// Over these numbers.
    pub fn of(rows: &[ValueRow]) -> Self {
        let several = rows.iter().filter(|row| row.word == POSSIBLE && row.runs > 1);
        several.fold(SingleRuns::default(), |sum, row| SingleRuns {
            possible: sum.possible + 1,
            single: sum.single + usize::from(row.fewest_runs == Some(1)),
            expected: sum.expected + 1.0 / row.runs as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::audit::assumed::{Given, Settings};
    use crate::analysis::audit::read::parse;

    fn values(text: &str, runs: usize, split: Policy) -> Vec<ValueRow> {
        let row = &parse("mine.csv", text).unwrap()[0];
        let given = Given { runs: Some(runs), split: Some(split) };
        value_rows(row, &Settings::load().unwrap().assumed(row, given))
    }

    #[test]
    fn an_impossible_value_says_what_stands_beside_it_and_where_it_fits() {
        let row = &values("label,rte\nours,87.36\n", 5, Policy::Sora)[0];
        assert_eq!((row.word.as_str(), row.rows, row.nearest.as_str()), (IMPOSSIBLE, Some(139), "87.34, 87.48"));
        assert_eq!(
            row.fits,
            "7 runs on 139 (split sora, test); 9 runs on 138 (split sora, validation); 1 run on 277 (split official, test)"
        );
        let row = &values("label,rte\nours,87.36\n", 5, Policy::Official)[0];
        assert_eq!((row.word.as_str(), row.rows, row.fewest_runs), (POSSIBLE, Some(277), Some(1)));
    }

    #[test]
    fn what_is_no_count_or_too_fine_is_never_a_finding() {
        let found = values("label,cola,stsb,mrpc,qqp\nours,70.01,91.39,90.22/93.01,92.13/88.41\n", 5, Policy::Sora);
        let words: Vec<(&str, &str)> = found.iter().map(|row| (row.metric.as_str(), row.word.as_str())).collect();
        let expected = [
            ("matthews", NOT_TESTABLE),
            ("pearson", NOT_TESTABLE),
            ("accuracy", IMPOSSIBLE),
            ("f1", NOT_TESTABLE),
            ("accuracy", NOT_TESTABLE),
            ("f1", NOT_TESTABLE),
        ];
        assert_eq!(words, expected);
        assert_eq!([0, 4].map(|index| found[index].reason.as_str()), [NO_COUNT, TOO_FINE]);
    }

    #[test]
    fn the_two_sets_of_mnli_have_their_own_numbers_of_rows() {
        let found = values("label,mnli\nours,90.27/90.30\n", 1, Policy::Official);
        assert_eq!(found.iter().map(|row| row.rows).collect::<Vec<_>>(), [Some(9815), Some(9832)]);
        assert_eq!(found.iter().map(|row| row.metric.as_str()).collect::<Vec<_>>(), ["matched", "mismatched"]);
    }

    #[test]
    fn values_of_single_runs_are_counted_against_chance() {
        // 236 / 277 and 232 / 277, and 1178 / 1385.
        let rows =
            ["85.20", "83.75", "85.05"].map(|value| values(&format!("label,rte\na,{value}\n"), 5, Policy::Official));
        let counted = SingleRuns::of(&rows.concat());
        assert_eq!((counted.possible, counted.single), (3, 2));
        assert!((counted.expected - 0.6).abs() < 1e-12);
    }
}
