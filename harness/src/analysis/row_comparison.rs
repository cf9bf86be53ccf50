//! One of our rows against a published one: the pairs of numbers that are compared, their tests and verdicts.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::columns::TaskColumn;
use crate::analysis::comparability::{Mismatches, mismatches};
use crate::analysis::published::{Number, PublishedRow, TABLE1_TASKS};
use crate::analysis::stats::holm;
use crate::analysis::summary::{MethodRow, Score, TaskCell};
use crate::analysis::verdict::{PublishedMean, Test, Verdict, cell_margin};

/// Published metric that is one of two correlations, not said which.
pub const SOME_CORRELATION: &str = "correlation";
/// Mean of Pearson's and Spearman's correlation, as AdaLoRA prints.
pub const MEAN_CORRELATION: &str = "pearson_spearman_mean";

/// A number of a cell against the published one.
#[derive(Debug, Clone)]
pub struct PartComparison<'a> {
    /// The published number.
    pub number: Option<&'a Number>,
    /// Metric that both are compared in.
    pub metric: String,
    /// The test, where there are two seeds or more.
    pub test: Option<Test>,
    /// Its p after Holm's correction over the compared cells of the row.
    pub p_holm: Option<f64>,
    /// Outcome.
    pub verdict: Verdict,
    /// Why it is not comparable.
    pub reasons: Vec<String>,
}

/// A row against a published one.
pub struct RowComparison<'a> {
    /// The published row.
    pub published: Option<&'a PublishedRow>,
    /// By task, one for each part of the cell.
    pub cells: BTreeMap<String, Vec<PartComparison<'a>>>,
    /// Of the average over the eight tasks; its p is its own.
    pub average: PartComparison<'a>,
    /// Settings the publication does not state.
    pub not_stated: BTreeSet<&'static str>,
}

impl<'a> RowComparison<'a> {
    /// Compares every number of `row`; `margin` is the least margin of equivalence in points.
    pub fn new(row: &MethodRow, published: Option<&'a PublishedRow>, columns: &[TaskColumn], margin: f64) -> Self {
        let mut not_stated = BTreeSet::new();
        let mut all_reasons = BTreeSet::new();
        let mut cells = BTreeMap::new();
        for column in columns {
            let Some(cell) = row.cells.get(&column.name) else { continue };
            let mut found = Mismatches::default();
            for run in &cell.runs {
                let of_run = mismatches(&run.row, published);
                found.not_stated.extend(of_run.not_stated);
                found.differing.extend(
                    of_run.differing.into_iter().filter(|reason| !found.differing.contains(reason)).collect::<Vec<_>>(),
                );
            }
            not_stated.extend(found.not_stated);
            all_reasons.extend(found.differing.iter().cloned());
            let parts = column
                .parts
                .iter()
                .map(|part| compare_part(cell, &column.name, part, published, &found.differing, margin));
            cells.insert(column.name.clone(), parts.collect());
        }
        let average = compare_average(row, published, all_reasons.into_iter().collect(), margin);
        let mut comparison = RowComparison { published, cells, average, not_stated };
        comparison.decide();
        comparison
    }

    /// Holm's correction over the cells that can be compared, then every verdict.
    fn decide(&mut self) {
        let comparable = |part: &&mut PartComparison| part.reasons.is_empty() && part.test.is_some();
        let mut parts: Vec<&mut PartComparison> = self.cells.values_mut().flatten().filter(comparable).collect();
        let p_values: Vec<f64> = parts.iter().filter_map(|part| part.test.map(|test| test.p)).collect();
        for (part, p) in parts.iter_mut().zip(holm(&p_values)) {
            part.p_holm = Some(p);
            part.verdict = part.test.map_or(Verdict::NotComparable, |test| test.verdict(p));
        }
    }

    /// How many numbers of the cells have each verdict.
    pub fn counts(&self) -> Vec<(Verdict, usize)> {
        let all: Vec<Verdict> = self.cells.values().flatten().map(|part| part.verdict).collect();
        let count = |verdict: Verdict| (verdict, all.iter().filter(|v| **v == verdict).count());
        Verdict::ALL.into_iter().map(count).filter(|(_, n)| *n > 0).collect()
    }
}

fn compare_part<'a>(
    cell: &TaskCell,
    task: &str,
    (dev_set, metric): &(String, String),
    published: Option<&'a PublishedRow>,
    differing: &[String],
    margin: f64,
) -> PartComparison<'a> {
    let number = published.and_then(|row| row.task(task).into_iter().find(|number| is_of(number, dev_set, metric)));
    let compared = number.map_or(metric.as_str(), |number| metric_of(number, metric));
    let mut reasons = differing.to_vec();
    let values: Option<Vec<f64>> = cell.scores.iter().map(|score| value(score, dev_set, compared)).collect();
    let examples = cell.scores.first().and_then(|score| score.examples.first()).copied().unwrap_or(0);
    let test = match (number, &values) {
        (Some(number), Some(values)) => {
            Test::new(values, mean_of(number, published), cell_margin(margin, examples as usize))
        }
        _ => None,
    };
    if reasons.is_empty() {
        reasons.extend(missing(number, values.as_deref(), test.is_some(), compared));
    }
    PartComparison { number, metric: compared.into(), test, p_holm: None, verdict: Verdict::NotComparable, reasons }
}

/// Reason that there is no test although the settings agree.
fn missing(number: Option<&Number>, values: Option<&[f64]>, is_tested: bool, metric: &str) -> Option<String> {
    match (number, values) {
        (None, _) => Some(format!("no published {metric}")),
        (_, None) => Some(format!("the published metric {metric} was not computed")),
        _ if !is_tested => Some("fewer than two seeds".into()),
        _ => None,
    }
}

fn compare_average<'a>(
    row: &MethodRow,
    published: Option<&'a PublishedRow>,
    differing: Vec<String>,
    margin: f64,
) -> PartComparison<'a> {
    let number = published.and_then(|row| row.task("average").into_iter().next());
    let seeds = row.seed_averages();
    let test = number.and_then(|number| Test::new(&seeds, mean_of(number, published), margin));
    let mut reasons = differing;
    let (_, tasks) = row.average();
    if tasks < TABLE1_TASKS.len() {
        reasons.push(format!("only {tasks} of {} tasks", TABLE1_TASKS.len()));
    } else if reasons.is_empty() {
        reasons.extend(missing(number, Some(&seeds), test.is_some(), "average"));
    }
    let verdict = match test {
        Some(test) if reasons.is_empty() => test.verdict(test.p),
        _ => Verdict::NotComparable,
    };
    PartComparison { number, metric: "average".into(), test, p_holm: None, verdict, reasons }
}

fn mean_of(number: &Number, row: Option<&PublishedRow>) -> PublishedMean {
    let runs = row.and_then(|row| row.setting.as_ref()?.runs).unwrap_or(1);
    PublishedMean { value: number.value, runs }
}

/// Whether a published number stands beside a part of a cell: by its metric, by the development set that MNLI's are named by, or as a
/// correlation beside Pearson's.
fn is_of(number: &Number, dev_set: &str, metric: &str) -> bool {
    let is_correlation = [SOME_CORRELATION, MEAN_CORRELATION].contains(&number.metric.as_str());
    number.metric == metric || number.metric == dev_set || (is_correlation && metric == "pearson")
}

/// The metric of ours that a published number is compared with. One of two correlations, not said which, is compared with the printed one.
fn metric_of<'n>(number: &'n Number, printed: &'n str) -> &'n str {
    if number.metric == MEAN_CORRELATION { MEAN_CORRELATION } else { printed }
}

fn value(score: &Score, dev_set: &str, metric: &str) -> Option<f64> {
    let of = |metric: &str| score.run.points(dev_set, metric);
    match metric {
        MEAN_CORRELATION => Some((of("pearson")? + of("spearman")?) / 2.0),
        metric => of(metric),
    }
}
