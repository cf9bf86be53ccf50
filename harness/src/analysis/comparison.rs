//! Table 1 as numbers: every method row against its published row, a row for each number.

use std::collections::{BTreeMap, BTreeSet};

use crate::analysis::columns::TaskColumn;
use crate::analysis::frame::group::ReportGroup;
use crate::analysis::frame::rows::RunRow;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::published::{PublishedRow, published_row};
use crate::analysis::results::GroupResults;
use crate::analysis::row_comparison::{PartComparison, RowComparison};
use crate::analysis::stats::{mean, resolution, sample_std, t_interval};
use crate::analysis::summary::{MethodRow, TaskCell};

frame_rows! {
    /// One number of the table: a method on a metric of a task, or its average. Values in points of 100.
    pub struct ComparisonRow {
        /// Method.
        method: String,
        /// Difference from the method's first setting; `base` for that.
        label = "variant": String,
        /// Name of method and variant in tables.
        title: String,
        /// Task, or `average`.
        task: String,
        /// Split policy.
        split: String,
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Development set.
        dev_set: String,
        /// Metric.
        metric: String,
        /// Finished seeds.
        seeds: u64,
        /// Mean over them.
        mean: Option<f64>,
        /// Sample standard deviation.
        std: Option<f64>,
        /// Lower end of the 95 % t interval.
        interval_low: Option<f64>,
        /// Upper end.
        interval_high: Option<f64>,
        /// Collapsed runs among the seeds.
        collapsed: u64,
        /// Failed or damaged runs, not among the seeds.
        failed: u64,
        /// Resolution of the split in points.
        resolution = "noise_floor": Option<f64>,
        /// Published value.
        published: Option<f64>,
        /// Published row.
        published_label: String,
        /// Check that the published value went through.
        published_status: String,
        /// Metric that is compared with the published one.
        compared_metric: String,
        /// Mean of ours less the published, in the compared metric.
        difference: Option<f64>,
        /// Lower end of the 90 % interval of the difference.
        difference_low: Option<f64>,
        /// Upper end.
        difference_high: Option<f64>,
        /// Two-sided p of no difference.
        p: Option<f64>,
        /// The same after Holm's correction over the row's cells; empty for the average.
        p_holm: Option<f64>,
        /// Margin of equivalence.
        margin: Option<f64>,
        /// Least difference that these seeds show with a power of 80 %.
        detectable: Option<f64>,
        /// Seeds that a decision at the margin takes; empty: more than 1,000.
        seeds_needed: Option<u64>,
        /// Verdict.
        verdict: String,
        /// Reasons that it is not comparable.
        reasons: String,
        /// Settings the publication does not state.
        not_stated: String,
        /// Allocated parameters of the method's row.
        allocated: Option<f64>,
        /// Effective parameters.
        effective: Option<f64>,
        /// Parameters by the authors' counter.
        as_published: Option<f64>,
        /// Number formats of the row's runs.
        precisions: String,
        /// Numeric versions of the programs that made them.
        numerics: String,
        /// Commits of those programs; `+`: with changes.
        commits: String,
        /// Devices they were made on.
        devices: String,
        /// GPU drivers.
        drivers: String,
        /// libtorch versions.
        libtorch: String,
    }
}

/// A method row against its published row.
pub struct MethodComparison<'a> {
    /// The method row.
    pub method: &'a MethodRow,
    /// Its published row with the tests and verdicts.
    pub against: RowComparison<'a>,
    /// Its numbers: cells in the order of the columns, then the average.
    pub rows: Vec<ComparisonRow>,
}

impl MethodComparison<'_> {
    /// Numbers of one task, or of the average.
    pub fn of_task(&self, task: &str) -> impl Iterator<Item = &ComparisonRow> {
        self.rows.iter().filter(move |row| row.task == task)
    }
}

/// Compares every method row of a group with its published row; `margin` is the least margin of equivalence in points.
pub fn comparison<'a>(
    group: &'a GroupResults,
    published: &'a [PublishedRow],
    margin: f64,
) -> Vec<MethodComparison<'a>> {
    let compare = |method: &'a MethodRow| {
        let theirs = published_row(published, &method.method, &group.group.split, &method.options);
        let against = RowComparison::new(method, theirs, &group.columns, margin);
        let rows = rows(&group.group, method, &against, &group.columns);
        MethodComparison { method, against, rows }
    };
    group.methods.iter().map(compare).collect()
}

/// The commonest number of finished seeds in a cell, the larger of two that are as common; 0 without a finished run.
pub fn usual_seeds(methods: &[MethodRow]) -> usize {
    let mut times: BTreeMap<usize, usize> = BTreeMap::new();
    for cell in methods.iter().flat_map(|row| row.cells.values()).filter(|cell| !cell.scores.is_empty()) {
        *times.entry(cell.scores.len()).or_default() += 1;
    }
    times.into_iter().max_by_key(|&(seeds, times)| (times, seeds)).map_or(0, |(seeds, _)| seeds)
}

/// Test splits of each column with a finished run: its title, and the examples and resolution of each split.
pub fn resolutions(columns: &[TaskColumn], methods: &[MethodRow]) -> Vec<(String, Vec<(u64, f64)>)> {
    let of_column = |column: &TaskColumn| {
        let score = methods.iter().find_map(|row| row.cells.get(&column.name)?.scores.first())?;
        let splits: BTreeSet<u64> = score.examples.iter().copied().collect();
        let resolutions = splits.into_iter().filter_map(|n| Some((n, resolution(n as usize)?)));
        Some((column.title.clone(), resolutions.collect()))
    };
    columns.iter().filter_map(of_column).collect()
}

/// Accuracy in points of 100 of the most frequent class alone, for each column with a finished run whose number is an accuracy: its title,
/// and the score.
pub fn majority_scores(columns: &[TaskColumn], methods: &[MethodRow]) -> Vec<(String, f64)> {
    let of_column = |column: &TaskColumn| {
        column.parts.first().filter(|(_, metric)| metric == "accuracy")?;
        let scores = methods.iter().filter_map(|row| row.cells.get(&column.name)).flat_map(|cell| &cell.scores);
        let predicted = scores.into_iter().find_map(|score| score.run.predictions.as_ref())?;
        Some((column.title.clone(), predicted.test_set.largest_share()))
    };
    columns.iter().filter_map(of_column).collect()
}

/// Resolution of the split behind a part of a cell.
fn resolution_of(cell: &TaskCell, part: usize) -> Option<f64> {
    resolution(*cell.scores.first()?.examples.get(part)? as usize)
}

/// Numbers of one method row.
fn rows(group: &ReportGroup, row: &MethodRow, compared: &RowComparison, columns: &[TaskColumn]) -> Vec<ComparisonRow> {
    let base = base(group, row, compared);
    let mut rows: Vec<ComparisonRow> = Vec::new();
    for column in columns {
        let (Some(cell), Some(parts)) = (row.cells.get(&column.name), compared.cells.get(&column.name)) else {
            continue;
        };
        for (index, ((dev_set, metric), part)) in column.parts.iter().zip(parts).enumerate() {
            rows.push(ComparisonRow {
                task: column.name.clone(),
                dev_set: dev_set.clone(),
                metric: metric.clone(),
                collapsed: cell.collapsed() as u64,
                failed: cell.failed.len() as u64,
                resolution: resolution_of(cell, index),
                ..with_comparison(with_values(&base, &cell.part(index)), part)
            });
        }
    }
    rows.push(ComparisonRow {
        task: "average".into(),
        metric: "average".into(),
        mean: row.average().0,
        collapsed: row.cells.values().map(|cell| cell.collapsed() as u64).sum(),
        failed: row.cells.values().map(|c| c.failed.len() as u64).sum(),
        ..with_comparison(with_values(&base, &row.seed_averages()), &compared.average)
    });
    rows
}

fn with_values(base: &ComparisonRow, values: &[f64]) -> ComparisonRow {
    let interval = t_interval(values, 0.95);
    ComparisonRow {
        seeds: values.len() as u64,
        mean: mean(values),
        std: sample_std(values),
        interval_low: interval.map(|i| i.low),
        interval_high: interval.map(|i| i.high),
        ..base.clone()
    }
}

fn with_comparison(row: ComparisonRow, part: &PartComparison) -> ComparisonRow {
    // A test of another setting or metric says nothing.
    let test = part.test.filter(|_| part.reasons.is_empty());
    ComparisonRow {
        published: part.number.map(|n| n.value),
        published_status: part.number.map_or("", |n| n.status.name()).into(),
        compared_metric: part.metric.clone(),
        difference: test.map(|t| t.difference),
        difference_low: test.map(|t| t.interval.low),
        difference_high: test.map(|t| t.interval.high),
        p: test.map(|t| t.p),
        p_holm: part.p_holm,
        margin: test.map(|t| t.margin),
        detectable: test.map(|t| t.detectable),
        seeds_needed: test.and_then(|t| t.seeds_needed()).map(|n| n as u64),
        verdict: part.verdict.name().into(),
        reasons: part.reasons.join("; "),
        ..row
    }
}

fn base(group: &ReportGroup, row: &MethodRow, compared: &RowComparison) -> ComparisonRow {
    let count = |of: fn(&RunRow) -> Option<i64>| row.mean_count(of);
    let joined = |texts: Vec<String>| texts.join("; ");
    ComparisonRow {
        data_source: group.data_source.clone(),
        backbone: group.backbone.clone(),
        split: group.split.clone(),
        method: row.method.clone(),
        label: row.label.clone(),
        title: row.title.clone(),
        task: String::new(),
        dev_set: String::new(),
        metric: String::new(),
        seeds: 0,
        mean: None,
        std: None,
        interval_low: None,
        interval_high: None,
        collapsed: 0,
        failed: 0,
        resolution: None,
        published: None,
        published_label: compared.published.map_or("", |row| row.label()).into(),
        published_status: String::new(),
        compared_metric: String::new(),
        difference: None,
        difference_low: None,
        difference_high: None,
        p: None,
        p_holm: None,
        margin: None,
        detectable: None,
        seeds_needed: None,
        verdict: String::new(),
        reasons: String::new(),
        not_stated: joined(compared.not_stated.iter().map(ToString::to_string).collect()),
        allocated: count(|r| r.allocated),
        effective: count(|r| r.effective),
        as_published: count(|r| r.as_published),
        precisions: row.distinct(|run| &run.precision),
        numerics: joined(row.numerics().iter().map(u64::to_string).collect()),
        commits: row.distinct(|run| &run.commit),
        devices: row.distinct(|run| &run.device),
        drivers: row.distinct(|run| &run.driver),
        libtorch: row.distinct(|run| &run.libtorch),
    }
}
