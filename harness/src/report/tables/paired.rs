//! Every row against the LoRA row of the same budget, on the same tasks and seeds.

use std::collections::BTreeMap;

use datasets::metrics::Metric;

use crate::analysis::columns::{TaskColumn, task_columns};
use crate::analysis::examples::Pairs;
use crate::analysis::frame::Collected;
use crate::analysis::frame::group::Protocol;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::stats::{holm, mean, paired_t, sample_std, sign_flip, t_interval};
use crate::analysis::summary::{MethodRow, Score, TaskCell, summarise};
use crate::error::Result;
use crate::report::tables::{GridRow, Needs, Rendered, Table};
use crate::store::record::SetPredictions;

/// The method the others are compared with.
const REFERENCE: &str = "lora";
/// Fewest pairs a test is made with.
const FEWEST: usize = 3;

/// Paired comparison with LoRA.
pub struct Paired;

frame_rows! {
    /// One row on one task, or over all tasks, against its LoRA row; in points of 100.
    pub struct Line {
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Split policy.
        split: String,
        /// Row, with its setting where it is not the base row.
        method: String,
        /// LoRA row it is compared with.
        reference: String,
        /// Task, or `all`: over the tasks with common seeds.
        task: String,
        /// Seeds both finished.
        pairs: u64,
        /// Mean difference, row - LoRA.
        difference: Option<f64>,
        /// Its sample standard deviation over seeds.
        std: Option<f64>,
        /// Lower end of the 95 % t interval over seeds.
        interval_low: Option<f64>,
        /// Upper end.
        interval_high: Option<f64>,
        /// Two-sided p of the paired t test over seeds.
        p_t: Option<f64>,
        /// The same, Holm-corrected over the tasks of the comparison.
        p_holm: Option<f64>,
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

impl Table for Paired {
    fn name(&self) -> &'static str {
        "paired"
    }

    fn title(&self) -> &'static str {
        "Paired comparison with LoRA"
    }

    fn needs(&self) -> Needs {
        Needs::Runs
    }

    fn build(&self, collected: &Collected) -> Result<Option<Rendered>> {
        let results = collected.results()?;
        let columns = task_columns(&results);
        let rows = summarise(&results, &columns);
        let references: Vec<&MethodRow> = rows.iter().filter(|row| row.method == REFERENCE).collect();
        let (Some(first), Some(base)) = (results.first(), references.first()) else { return Ok(None) };
        let protocol = Protocol::of(first);
        let others = rows.iter().filter(|row| !std::ptr::eq(*row, *base));
        let compare = |row| comparison(&protocol, row, reference(row, &references), &columns, &collected.predictions);
        let lines: Vec<Line> = others.flat_map(compare).collect();
        if lines.is_empty() {
            return Ok(None);
        }
        Ok(Some(Rendered {
            title: format!("{}: {}", self.title(), protocol.title()),
            header: header(),
            rows: lines.iter().map(|line| grid_row(line, &columns)).collect(),
            notes: notes(&lines),
            data: crate::analysis::frame::frame(&lines)?,
        }))
    }
}

/// The LoRA row of a row's budget: the one that differs from the base row in the same way, else the one whose allocated parameters
/// are nearest. The base row comes first and is the one a LoRA row itself is compared with.
fn reference<'a>(row: &MethodRow, references: &[&'a MethodRow]) -> &'a MethodRow {
    if row.method == REFERENCE {
        return references[0];
    }
    if let Some(same) = references.iter().find(|reference| reference.variant == row.variant) {
        return same;
    }
    let allocated = |row: &MethodRow| row.mean_count(|run| run.allocated).unwrap_or(f64::NAN);
    let distance = |reference: &MethodRow| (allocated(row) / allocated(reference)).ln().abs();
    let nearest = references.iter().filter(|reference| distance(reference).is_finite());
    nearest.min_by(|a, b| distance(a).total_cmp(&distance(b))).copied().unwrap_or(references[0])
}

/// Differences of a row and its reference by seed on one task.
fn differences(ours: &TaskCell, theirs: &TaskCell) -> BTreeMap<u64, f64> {
    let partner = |score: &Score| theirs.scores.iter().find(|other| other.seed == score.seed);
    ours.scores.iter().filter_map(|score| Some((score.seed, score.score() - partner(score)?.score()))).collect()
}

fn comparison(
    protocol: &Protocol,
    row: &MethodRow,
    reference: &MethodRow,
    columns: &[TaskColumn],
    predictions: &BTreeMap<String, Vec<SetPredictions>>,
) -> Vec<Line> {
    let empty = Line {
        data_source: protocol.data_source.clone(),
        backbone: protocol.backbone.clone(),
        split: protocol.split.clone(),
        method: row.title.clone(),
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
    let mut lines: Vec<Line> = Vec::new();
    for column in columns {
        let Some(ours) = row.cells.get(&column.name) else { continue };
        let nothing = TaskCell::default();
        let theirs = reference.cells.get(&column.name).unwrap_or(&nothing);
        let found = differences(ours, theirs);
        let over_seeds = with_seeds(&empty, &column.name, &found.values().copied().collect::<Vec<_>>(), 1);
        lines.push(with_examples(over_seeds, ours, theirs, column, predictions));
        by_task.push(found);
    }
    correct(&mut lines);
    lines.extend(over_tasks(&empty, &by_task));
    lines
}

fn with_seeds(empty: &Line, task: &str, differences: &[f64], tasks: usize) -> Line {
    let tested = differences.len() >= FEWEST;
    let interval = if tested { t_interval(differences, 0.95) } else { None };
    let patterns = (differences.len() * tasks).min(1000) as i32;
    Line {
        task: task.into(),
        pairs: differences.len() as u64,
        difference: mean(differences),
        std: sample_std(differences),
        interval_low: interval.map(|i| i.low),
        interval_high: interval.map(|i| i.high),
        p_t: if tested { paired_t(differences).map(|test| test.p) } else { None },
        p_sign_flip: if tested { sign_flip(differences, 0) } else { None },
        smallest_p: tested.then(|| 2.0 / 2f64.powi(patterns)),
        ..empty.clone()
    }
}

/// Over the tasks: mean difference of each seed that all tasks have, and a sign flip over every task and seed.
fn over_tasks(empty: &Line, by_task: &[BTreeMap<u64, f64>]) -> Option<Line> {
    let paired: Vec<&BTreeMap<u64, f64>> = by_task.iter().filter(|differences| !differences.is_empty()).collect();
    if paired.len() < 2 {
        return None;
    }
    let common = paired[0].keys().filter(|seed| paired.iter().all(|differences| differences.contains_key(seed)));
    let of_seed = |seed: &u64| mean(&paired.iter().filter_map(|d| d.get(seed).copied()).collect::<Vec<_>>());
    let means: Vec<f64> = common.filter_map(of_seed).collect();
    let every: Vec<f64> = paired.iter().flat_map(|differences| differences.values().copied()).collect();
    let line = with_seeds(empty, "all", &means, paired.len());
    let flipped = if means.len() >= FEWEST { sign_flip(&every, 0) } else { None };
    Some(Line { p_sign_flip: flipped, ..line })
}

/// The tests over examples in the task's first printed metric and development set.
fn with_examples(
    line: Line,
    ours: &TaskCell,
    theirs: &TaskCell,
    column: &TaskColumn,
    predictions: &BTreeMap<String, Vec<SetPredictions>>,
) -> Line {
    let Some((dev_set, name)) = column.parts.first() else { return line };
    let task = datasets::tasks::find(&column.name).ok();
    let Some(metric) = task.and_then(|task| task.metrics.iter().find(|metric| metric.name() == name)) else {
        return line;
    };
    let of_run = |score: &Score| scored_set(predictions.get(&score.run)?, dev_set);
    let mut rows: Option<(&[usize], &[f64])> = None;
    let mut pairs = BTreeMap::new();
    for own in &ours.scores {
        let other = theirs.scores.iter().find(|other| other.seed == own.seed);
        let (Some(own_set), Some(other_set)) = (of_run(own), other.and_then(of_run)) else { continue };
        let known = rows.get_or_insert((&own_set.rows, &own_set.labels));
        if known.0 == own_set.rows.as_slice() && known.0 == other_set.rows.as_slice() {
            pairs.insert(own.seed, [own_set.predictions.clone(), other_set.predictions.clone()]);
        }
    }
    let Some((_, labels)) = rows else { return line };
    let pairs = Pairs::new(labels.to_vec(), pairs);
    let interval = pairs.bootstrap(*metric, 0.95, 0);
    let mcnemar = if *metric == Metric::Accuracy { pairs.mcnemar() } else { None };
    Line {
        example_metric: name.clone(),
        examples_low: interval.map(|i| i.low),
        examples_high: interval.map(|i| i.high),
        mcnemar_seed: mcnemar.map(|(seed, _)| seed),
        p_mcnemar: mcnemar.map(|(_, p)| p),
        ..line
    }
}

/// Predictions on the reported split of a development set; under the official policy that is the only one.
fn scored_set<'a>(sets: &'a [SetPredictions], dev_set: &str) -> Option<&'a SetPredictions> {
    let of_split = |split: &str| sets.iter().find(|set| set.dev_set == dev_set && set.split == split);
    of_split("test").or_else(|| of_split("validation"))
}

/// Holm's correction over the tasks of one comparison.
fn correct(lines: &mut [Line]) {
    let p_values: Vec<f64> = lines.iter().filter_map(|line| line.p_t).collect();
    let mut corrected = holm(&p_values).into_iter();
    for line in lines.iter_mut().filter(|line| line.p_t.is_some()) {
        line.p_holm = corrected.next();
    }
}

fn header() -> Vec<String> {
    let names = [
        "Row",
        "Compared with",
        "Task",
        "Pairs",
        "Difference",
        "95 % interval",
        "p (paired t)",
        "p (Holm)",
        "p (sign flip)",
        "Over examples: 95 %",
        "p (McNemar)",
    ];
    names.map(str::to_string).to_vec()
}

fn grid_row(line: &Line, columns: &[TaskColumn]) -> GridRow {
    let title = columns.iter().find(|c| c.name == line.task).map(|c| c.title.clone());
    let task = title.unwrap_or_else(|| "all tasks".into());
    let std = line.std.map_or(String::new(), |s| format!(" ± {s:.2}"));
    let p = |value: Option<f64>| value.map_or("–".to_string(), |p| format!("{p:.3}"));
    let interval = |low: Option<f64>, high: Option<f64>| match (low, high) {
        (Some(low), Some(high)) => format!("{low:+.2} to {high:+.2}"),
        _ => "–".to_string(),
    };
    let difference = line.difference.map_or("no common seed".to_string(), |d| format!("{d:+.2}{std}"));
    let cells = vec![
        line.method.clone(),
        line.reference.clone(),
        task,
        line.pairs.to_string(),
        difference,
        interval(line.interval_low, line.interval_high),
        p(line.p_t),
        p(line.p_holm),
        p(line.p_sign_flip),
        interval(line.examples_low, line.examples_high),
        line.mcnemar_seed.map_or("–".into(), |seed| format!("{} (seed {seed})", p(line.p_mcnemar))),
    ];
    GridRow { cells, sub: false }
}

fn notes(lines: &[Line]) -> Vec<String> {
    let largest = lines.iter().map(|line| line.pairs).max().unwrap_or(0);
    let mut notes = vec![
        "Difference of the task's score in points of 100, row - LoRA on the same seed: mean ± sample standard deviation over seeds. A \
         row is compared with the LoRA row that is changed in the same way, else with the one whose allocated parameters are nearest; \
         LoRA rows with the first one."
            .into(),
    ];
    if largest < FEWEST as u64 {
        notes.push(format!(
            "At most {largest} seeds are paired: with fewer than {FEWEST} no test over seeds is possible."
        ));
    } else {
        notes.push(format!(
            "Over seeds: paired t test, p (Holm) over the tasks of one comparison; sign flip cannot go below {:.3} for {largest} seeds of \
             one task. All tasks: means of each seed over the tasks; signs are flipped by seed within each task. A dash: differences \
             without spread have no t test.",
            2.0 / 2f64.powi(largest.min(60) as i32)
        ));
    }
    notes.push(
        "Over examples, another thing than over seeds: BCa bootstrap interval (10,000 draws of the test rows) of the mean difference of \
         the task's first metric, and McNemar's exact test on the predictions of one seed, for accuracies."
            .into(),
    );
    notes
}
