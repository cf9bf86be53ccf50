//! Every method row against the LoRA row of the same budget, on the same tasks and seeds.

use std::collections::BTreeMap;

use datasets::metrics::Metric;
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::analysis::columns::TaskColumn;
use crate::analysis::examples::Pairs;
use crate::analysis::frame::group::ReportGroup;
use crate::analysis::frame::predictions::{TestPredictions, Values};
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::results::GroupResults;
use crate::analysis::stats::{holm, mean, paired_t, sample_std, sign_flip, t_interval};
use crate::analysis::summary::{MethodRow, Score, TaskCell};
use crate::analysis::tuning::{searches, tuned_rows};

/// The method the others are compared with.
const REFERENCE: &str = "lora";
/// Largest difference in points that is none: `results.csv` holds points, a store shares of 1.
pub const EQUAL: f64 = 1e-9;
/// Fewest pairs a test is made with.
pub const FEWEST: usize = 3;
/// Seed of the draws: a report is the same every time.
const DRAW_SEED: u64 = 0;

frame_rows! {
    /// One row on one task, or over all tasks, against its LoRA row; in points of 100.
    pub struct PairedRow {
        /// Method.
        method: String,
        /// Difference from the method's first setting; `base` for that.
        label = "variant": String,
        /// Name of method and variant in tables.
        title: String,
        /// Task, or `all`: over the tasks with common seeds.
        task: String,
        /// Split policy.
        split: String,
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Title of the LoRA row it is compared with.
        reference: String,
        /// Seeds both finished.
        pairs: u64,
        /// Mean difference, row - LoRA.
        difference = "paired_difference": Option<f64>,
        /// Its sample standard deviation over seeds.
        std = "paired_std": Option<f64>,
        /// Lower end of the 95 % t interval over seeds.
        interval_low = "paired_low": Option<f64>,
        /// Upper end.
        interval_high = "paired_high": Option<f64>,
        /// Two-sided p of the paired t test over seeds.
        p_t: Option<f64>,
        /// The same, Holm-corrected over the tasks of the comparison.
        p_holm = "paired_p_holm": Option<f64>,
        /// Two-sided p of the sign-flip permutation test over seeds.
        p_sign_flip: Option<f64>,
        /// Smallest p that the sign-flip test can reach with these pairs.
        smallest_p: Option<f64>,
        /// Metric of the tests over examples.
        example_metric: String,
        /// Lower end of the 95 % BCa bootstrap interval of the metric's mean difference over examples.
        examples_low: Option<f64>,
        /// Upper end.
        examples_high: Option<f64>,
        /// Seed whose predictions McNemar's test takes.
        mcnemar_seed: Option<u64>,
        /// Two-sided p of McNemar's exact test on that seed's predictions; for accuracies.
        p_mcnemar: Option<f64>,
    }
}

/// One method row, and the row it is compared with.
pub type Pair<'a> = (&'a MethodRow, &'a MethodRow);

/// Rows of every comparison in a group; none without a LoRA row, or with that row alone. Where settings were searched, the chosen ones are
/// compared with LoRA's chosen ones, and trials of a single seed with nothing.
pub fn paired(group: &GroupResults) -> Vec<PairedRow> {
    let searches = searches(group);
    let tuned = tuned_rows(&searches);
    let is_single = |row: &MethodRow| row.cells.values().any(|cell| cell.scores.len() < 2);
    let is_left_out = |row: &MethodRow| is_single(row) && searches.iter().any(|search| search.has(row));
    let rows: Vec<&MethodRow> = tuned.iter().chain(group.methods.iter().filter(|row| !is_left_out(row))).collect();
    let pairs = reference_pairs(&rows);
    let rows: Vec<Vec<PairedRow>> = pairs.par_iter().map(|pair| compare(&group.group, pair, &group.columns)).collect();
    rows.into_iter().flatten().collect()
}

/// Every row with its LoRA row; none without a LoRA row, or with that row alone.
pub fn reference_pairs<'a>(methods: &[&'a MethodRow]) -> Vec<Pair<'a>> {
    let Some(references) = References::of(methods) else { return Vec::new() };
    let others = methods.iter().copied().filter(|row| !std::ptr::eq(*row, references.base));
    others.map(|row| (row, references.of_row(row))).collect()
}

/// Smallest two-sided p that a sign flip of `pairs` differences can reach.
pub fn smallest_p(pairs: usize) -> f64 {
    2.0 / 2f64.powi(pairs.min(1000) as i32)
}

/// The LoRA rows of a group whose runs were made here.
struct References<'a> {
    base: &'a MethodRow,
    by_label: BTreeMap<&'a str, &'a MethodRow>,
    /// By the bits of the mean of allocated parameters, which sort like the (positive) numbers; of equal ones the first.
    by_allocated: BTreeMap<u64, (usize, &'a MethodRow)>,
}

impl<'a> References<'a> {
    fn of(methods: &[&'a MethodRow]) -> Option<Self> {
        let rows = || methods.iter().copied().filter(|row| row.method == REFERENCE && !row.is_external());
        let mut by_allocated = BTreeMap::new();
        for (index, row) in rows().enumerate() {
            if let Some(allocated) = allocated(row) {
                by_allocated.entry(allocated.to_bits()).or_insert((index, row));
            }
        }
        let by_label = rows().map(|row| (row.label.as_str(), row)).collect();
        Some(References { base: rows().next()?, by_label, by_allocated })
    }

    /// The LoRA row of a row's budget: the one that differs from the base row in the same way, else the one whose allocated
    /// parameters are nearest (by ratio), else the base row. A LoRA row is compared with the base row.
    fn of_row(&self, row: &MethodRow) -> &'a MethodRow {
        if row.method == REFERENCE {
            return self.base;
        }
        if let Some(same) = self.by_label.get(row.label.as_str()) {
            return same;
        }
        let Some(own) = allocated(row) else { return self.base };
        let below = self.by_allocated.range(..=own.to_bits()).next_back();
        let above = self.by_allocated.range(own.to_bits()..).next();
        let distance = |bits: u64| (own / f64::from_bits(bits)).ln().abs();
        let nearest = below
            .into_iter()
            .chain(above)
            .min_by(|a, b| distance(*a.0).total_cmp(&distance(*b.0)).then(a.1.0.cmp(&b.1.0)));
        nearest.map_or(self.base, |(_, (_, row))| row)
    }
}

fn allocated(row: &MethodRow) -> Option<f64> {
    row.mean_count(|run| run.allocated).filter(|allocated| *allocated > 0.0)
}

/// Differences of a row and its reference by seed on one task.
fn differences(ours: &TaskCell, theirs: &TaskCell) -> BTreeMap<u64, f64> {
    let partners = theirs.by_seed();
    let of_score = |score: &Score| Some((score.seed(), score.score() - partners.get(&score.seed())?.score()));
    ours.scores.iter().filter_map(of_score).collect()
}

/// One row against another, task by task, then over all of them, with the tests over examples.
fn compare(group: &ReportGroup, pair: &Pair, columns: &[TaskColumn]) -> Vec<PairedRow> {
    let (row, reference) = pair;
    let of_row = |paired: PairedRow| match columns.iter().find(|column| column.name == paired.task) {
        Some(column) => {
            let nothing = TaskCell::default();
            let [ours, theirs] = [row, reference].map(|row| row.cells.get(&column.name).unwrap_or(&nothing));
            with_examples(paired, ours, theirs, column)
        }
        None => paired,
    };
    compare_seeds(group, pair, columns).into_iter().map(of_row).collect()
}

/// One row against another over seeds, task by task, then over all of them.
pub fn compare_seeds(group: &ReportGroup, (row, reference): &Pair, columns: &[TaskColumn]) -> Vec<PairedRow> {
    let empty = PairedRow {
        data_source: group.data_source.clone(),
        backbone: group.backbone.clone(),
        split: group.split.clone(),
        method: row.method.clone(),
        label: row.label.clone(),
        title: row.title.clone(),
        reference: reference.title.clone(),
        task: String::new(),
        pairs: 0,
        difference: None,
        std: None,
        interval_low: None,
        interval_high: None,
        p_t: None,
        p_holm: None,
        p_sign_flip: None,
        smallest_p: None,
        example_metric: String::new(),
        examples_low: None,
        examples_high: None,
        mcnemar_seed: None,
        p_mcnemar: None,
    };
    let mut by_task: Vec<BTreeMap<u64, f64>> = Vec::new();
    let mut rows: Vec<PairedRow> = Vec::new();
    for column in columns {
        let Some(ours) = row.cells.get(&column.name) else { continue };
        let nothing = TaskCell::default();
        let theirs = reference.cells.get(&column.name).unwrap_or(&nothing);
        let found = differences(ours, theirs);
        rows.push(with_seeds(&empty, &column.name, &found.values().copied().collect::<Vec<_>>(), 1));
        by_task.push(found);
    }
    correct(&mut rows);
    rows.extend(over_tasks(&empty, &by_task));
    rows
}

fn with_seeds(empty: &PairedRow, task: &str, differences: &[f64], tasks: usize) -> PairedRow {
    let tested = differences.len() >= FEWEST;
    let interval = if tested { t_interval(differences, 0.95) } else { None };
    PairedRow {
        task: task.into(),
        pairs: differences.len() as u64,
        difference: mean(differences),
        std: sample_std(differences),
        interval_low: interval.map(|i| i.low),
        interval_high: interval.map(|i| i.high),
        p_t: if tested { paired_t(differences).map(|test| test.p) } else { None },
        p_sign_flip: if tested { sign_flip(differences, DRAW_SEED) } else { None },
        smallest_p: tested.then(|| smallest_p(differences.len() * tasks)),
        ..empty.clone()
    }
}

/// Over the tasks: mean difference of each seed that all tasks have, and a sign flip over every task and seed.
fn over_tasks(empty: &PairedRow, by_task: &[BTreeMap<u64, f64>]) -> Option<PairedRow> {
    let paired: Vec<&BTreeMap<u64, f64>> = by_task.iter().filter(|differences| !differences.is_empty()).collect();
    if paired.len() < 2 {
        return None;
    }
    let common = paired[0].keys().filter(|seed| paired.iter().all(|differences| differences.contains_key(seed)));
    let of_seed = |seed: &u64| mean(&paired.iter().filter_map(|d| d.get(seed).copied()).collect::<Vec<_>>());
    let means: Vec<f64> = common.filter_map(of_seed).collect();
    let every: Vec<f64> = paired.iter().flat_map(|differences| differences.values().copied()).collect();
    let row = with_seeds(empty, "all", &means, paired.len());
    let flipped = if means.len() >= FEWEST { sign_flip(&every, DRAW_SEED) } else { None };
    Some(PairedRow { p_sign_flip: flipped, ..row })
}

/// Adds the tests over examples in the task's first printed metric and development set.
fn with_examples(row: PairedRow, ours: &TaskCell, theirs: &TaskCell, column: &TaskColumn) -> PairedRow {
    let Some((dev_set, name)) = column.parts.first() else { return row };
    let Some(metric) = Metric::named(name) else { return row };
    let Some(pairs) = predictions(ours, theirs, dev_set) else { return row };
    let interval = pairs.bootstrap(metric, 0.95, DRAW_SEED);
    let mcnemar = if metric == Metric::Accuracy { pairs.mcnemar() } else { None };
    PairedRow {
        example_metric: name.clone(),
        examples_low: interval.map(|i| i.low),
        examples_high: interval.map(|i| i.high),
        mcnemar_seed: mcnemar.map(|(seed, _)| seed),
        p_mcnemar: mcnemar.map(|(_, p)| p),
        ..row
    }
}

/// Predictions of both rows on one test set, by common seed; `None` without any.
fn predictions<'a>(ours: &'a TaskCell, theirs: &'a TaskCell, dev_set: &str) -> Option<Pairs<'a>> {
    let of_score = |score: &'a Score| score.run.predictions.as_ref().filter(|found| found.dev_set == dev_set);
    let partners = theirs.by_seed();
    let both = |own: &'a Score| {
        let partner = of_score(partners.get(&own.seed())?)?;
        Some((own.seed(), of_score(own)?, partner))
    };
    let found: Vec<(u64, &TestPredictions, &TestPredictions)> = ours.scores.iter().filter_map(both).collect();
    let test_set = &found.first()?.1.test_set;
    let same = found.iter().filter(|(_, own, other)| own.test_set == *test_set && other.test_set == *test_set);
    let values: BTreeMap<u64, [&Values; 2]> =
        same.map(|(seed, own, other)| (*seed, [&own.values, &other.values])).collect();
    Some(Pairs::new(test_set.labels(), values))
}

/// Corrects the p values of one comparison over its tasks (Holm).
fn correct(rows: &mut [PairedRow]) {
    let p_values: Vec<f64> = rows.iter().filter_map(|row| row.p_t).collect();
    let mut corrected = holm(&p_values).into_iter();
    for row in rows.iter_mut().filter(|row| row.p_t.is_some()) {
        row.p_holm = corrected.next();
    }
}
