//! Data of the page: compact JSON that its script makes tables of.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::analysis::comparison::{ComparisonRow, MethodComparison, comparison};
use crate::analysis::cost::{CostRow, cost};
use crate::analysis::efficiency::efficiency;
use crate::analysis::frame::rows::RunRow;
use crate::analysis::frame::run::RunResult;
use crate::analysis::frame::typed::internal;
use crate::analysis::published::{self, PublishedRow};
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::analysis::summary::{Score, TaskCell, bare_title, method_title};
use crate::error::Result;
use crate::report::html::keys::{Keys, keys};
use crate::report::html::paired_cells::{PairedCell, PairedCells};
use crate::report::html::run_columns::{RunColumn, run_columns};
use crate::report::table::TableDoc;

/// Tables that the page draws from numbers instead of their texts.
const DRAWN: &str = "table1";

/// Name of the scored rows where they select the checkpoint too.
const DEVELOPMENT_SET: &str = "Development set (it selected the checkpoint, too)";

/// Everything the script reads.
#[derive(Serialize)]
pub struct PageData {
    runs: Vec<RunColumn>,
    groups: Vec<GroupData>,
    tables: Vec<TableData>,
    methods: BTreeMap<String, String>,
}

/// Runs that stand in one table.
#[derive(Serialize)]
struct GroupData {
    title: String,
    /// The rows that are scored, in words.
    scored: &'static str,
    tasks: Vec<TaskData>,
    rows: Vec<RowData>,
    notes: Vec<String>,
    picture: Picture,
}

#[derive(Serialize)]
struct TaskData {
    name: String,
    title: String,
    metrics: Vec<String>,
}

/// A method in one setting.
#[derive(Serialize)]
struct RowData {
    method: String,
    variant: String,
    title: String,
    devices: Vec<String>,
    commits: Vec<String>,
    allocated: Option<f64>,
    effective: Option<f64>,
    as_published: Option<f64>,
    paper: String,
    cells: BTreeMap<String, CellData>,
    average: CellData,
}

/// A cell with everything that it opens to.
#[derive(Serialize)]
struct CellData {
    numbers: Vec<NumberData>,
    seeds: Vec<SeedData>,
    runs: Vec<usize>,
    failed: Vec<(String, String)>,
    unfinished: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paired: Option<PairedCell>,
}

/// One number of a cell, against the published one.
#[derive(Serialize)]
struct NumberData {
    dev_set: String,
    metric: String,
    seeds: u64,
    mean: Option<f64>,
    std: Option<f64>,
    interval: Option<[f64; 2]>,
    resolution: Option<f64>,
    published: Option<f64>,
    mark: &'static str,
    source: String,
    difference: Option<[f64; 3]>,
    p: Option<f64>,
    margin: Option<f64>,
    seeds_needed: Option<u64>,
    verdict: String,
    reasons: String,
    not_stated: String,
    collapsed: u64,
}

/// A finished run of a cell: seed, numbers, the run's place in the table of runs, whether it collapsed, and whether its checkpoint was
/// chosen before the rank budget was reached.
#[derive(Serialize)]
struct SeedData(u64, Vec<f64>, usize, bool, bool);

/// Time and parameters of each row.
#[derive(Serialize)]
struct Picture {
    how: &'static str,
    rows: Vec<PictureRow>,
}

#[derive(Serialize)]
struct PictureRow {
    title: String,
    method: String,
    /// None where the methods were timed without a setting of their own.
    variant: Option<String>,
    device: String,
    seconds: Option<f64>,
    ratio: Option<f64>,
    allocated: Option<f64>,
    effective: Option<f64>,
}

/// A table by its texts.
#[derive(Serialize)]
struct TableData {
    name: String,
    title: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
    keys: Keys,
}

/// The data of a report.
///
/// # Errors
/// A bug only.
pub fn page_data(frame: &ResultsFrame, tables: &[(&'static str, Vec<TableDoc>)]) -> Result<PageData> {
    let places: BTreeMap<&str, usize> =
        frame.runs.iter().enumerate().map(|(index, run)| (run.row.run.as_str(), index)).collect();
    let published = published::load()?;
    let paired = PairedCells::of(tables)?;
    let notes = |index: usize| {
        let docs = tables.iter().find(|(name, _)| *name == DRAWN).map(|(_, docs)| docs.as_slice());
        docs.and_then(|docs| docs.get(index)).map_or(Vec::new(), general_notes)
    };
    let group = |(index, group): (usize, &GroupResults)| {
        let rows = comparison(group, &published, frame.margin);
        GroupData {
            title: group.group.title(),
            scored: if published::is_official(&group.group.split) { DEVELOPMENT_SET } else { "Test split" },
            tasks: tasks(group),
            rows: rows.iter().map(|row| row_data(row, group, &places, &paired)).collect(),
            notes: notes(index),
            picture: picture(frame, group),
        }
    };
    let texts = tables.iter().filter(|(name, _)| *name != DRAWN);
    let table = |name: &str, doc: &TableDoc| TableData {
        name: name.into(),
        title: doc.title.clone(),
        header: doc.header.clone(),
        rows: doc.rows.clone(),
        notes: doc.notes.clone(),
        keys: keys(doc),
    };
    Ok(PageData {
        runs: run_columns(&frame.runs),
        groups: frame.groups.iter().enumerate().map(group).collect(),
        tables: texts.flat_map(|(name, docs)| docs.iter().map(|doc| table(name, doc))).collect(),
        methods: frame.runs.iter().map(|run| (run.row.method.clone(), bare_title(&run.row))).collect(),
    })
}

impl PageData {
    /// The data as JSON that can stand in a script element.
    ///
    /// # Errors
    /// A bug only.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string(self).map_err(internal)?.replace('<', "\\u003c"))
    }
}

/// Notes of Table 1 that are no footnotes of its cells: those are said where a cell opens.
fn general_notes(doc: &TableDoc) -> Vec<String> {
    doc.notes.iter().filter(|note| !note.starts_with('[')).cloned().collect()
}

/// Tasks of a group that were run.
fn tasks(group: &GroupResults) -> Vec<TaskData> {
    let was_run = |name: &str| group.methods.iter().any(|row| row.cells.contains_key(name));
    let columns = group.columns.iter().filter(|column| was_run(&column.name));
    let of = |part: &(String, String)| if part.0 == "dev" { part.1.clone() } else { format!("{} {}", part.0, part.1) };
    columns
        .map(|column| TaskData {
            name: column.name.clone(),
            title: column.title.clone(),
            metrics: column.parts.iter().map(of).collect(),
        })
        .collect()
}

fn row_data(
    compared: &MethodComparison,
    group: &GroupResults,
    places: &BTreeMap<&str, usize>,
    paired: &PairedCells,
) -> RowData {
    let (row, published) = (compared.method, compared.against.published);
    let distinct = |of: fn(&RunRow) -> &str| {
        let mut values: Vec<String> = row.runs.iter().map(|run| of(&run.row).to_string()).collect();
        values.sort();
        values.dedup();
        values
    };
    let cell = |task: &str| {
        let numbers = compared.of_task(task).map(|number| number_data(number, published)).collect();
        let empty = TaskCell::default();
        let found = row.cells.get(task).unwrap_or(&empty);
        let place = |run: &Arc<RunResult>| places.get(run.row.run.as_str()).copied();
        let seed = |score: &Score| {
            let (is_collapsed, is_early) = (score.run.is_collapsed(), score.run.budget_after.is_some());
            Some(SeedData(score.seed(), rounded(&score.parts), place(&score.run)?, is_collapsed, is_early))
        };
        CellData {
            numbers,
            seeds: found.scores.iter().filter_map(seed).collect(),
            runs: found.runs.iter().filter_map(place).collect(),
            failed: found.failed.clone(),
            unfinished: found.unfinished.clone(),
            paired: paired.get(&group.group, &row.title, task),
        }
    };
    let counts = compared.rows.first();
    RowData {
        method: row.method.clone(),
        variant: row.label.clone(),
        title: row.title.clone(),
        devices: distinct(|run| &run.device),
        commits: distinct(|run| &run.commit),
        allocated: counts.and_then(|row| row.allocated),
        effective: counts.and_then(|row| row.effective),
        as_published: counts.and_then(|row| row.as_published),
        paper: published.map_or(String::new(), |row| row.label().to_string()),
        cells: row.cells.keys().map(|task| (task.clone(), cell(task))).collect(),
        average: CellData { paired: paired.get(&group.group, &row.title, "all"), ..cell("average") },
    }
}

fn number_data(row: &ComparisonRow, published: Option<&PublishedRow>) -> NumberData {
    let numbers = published.map_or(Vec::new(), |published| published.task(&row.task));
    let number = numbers.into_iter().find(|number| Some(number.value) == row.published);
    let pair = |low: Option<f64>, high: Option<f64>| Some([low?, high?]);
    NumberData {
        dev_set: row.dev_set.clone(),
        metric: row.metric.clone(),
        seeds: row.seeds,
        mean: row.mean,
        std: row.std,
        interval: pair(row.interval_low, row.interval_high),
        resolution: row.resolution,
        published: row.published,
        mark: number.map_or("", |number| number.status.mark()),
        source: number.map_or(String::new(), |number| number.source.clone()),
        difference: pair(row.difference_low, row.difference_high)
            .and_then(|[low, high]| Some([row.difference?, low, high])),
        p: row.p_holm.or(row.p),
        margin: row.margin,
        seeds_needed: row.seeds_needed,
        verdict: row.verdict.clone(),
        reasons: row.reasons.clone(),
        not_stated: row.not_stated.clone(),
        collapsed: row.collapsed,
    }
}

fn rounded(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| (value * 1e4).round() / 1e4).collect()
}

/// Time an epoch, interleaved where that was measured, and parameters of every row.
fn picture(frame: &ResultsFrame, group: &GroupResults) -> Picture {
    let timed = efficiency(&frame.timings, &[]);
    let of_cost = |row: &CostRow| PictureRow {
        title: row.title.clone(),
        method: row.method.clone(),
        variant: Some(row.label.clone()),
        device: row.device.clone(),
        seconds: row.seconds,
        ratio: row.ratio,
        allocated: row.allocated,
        effective: row.effective,
    };
    let of_timed = |row: &crate::analysis::efficiency::EfficiencyRow| PictureRow {
        title: method_title(&row.method),
        method: row.method.clone(),
        variant: None,
        device: row.device.clone(),
        seconds: row.median_seconds,
        ratio: row.ratio,
        allocated: row.allocated.map(|n| n as f64),
        effective: row.effective.map(|n| n as f64),
    };
    match timed.is_empty() {
        true => Picture {
            how: "Seconds an epoch as the training runs saw them (they did not take turns), summed over the tasks that every row has.",
            rows: cost(group).map_or(Vec::new(), |(_, rows)| rows.iter().map(of_cost).collect()),
        },
        false => Picture {
            how: "Seconds an epoch, measured with the methods taking turns: median.",
            rows: timed.iter().map(of_timed).collect(),
        },
    }
}
