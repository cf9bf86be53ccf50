//! Table 1: every method on every task, beside the published numbers, with a verdict.

use std::collections::BTreeSet;

use super::columns::{TaskColumn, task_columns};
use super::summary::{MethodRow, TaskCell, summarise};
use super::table1_data::{self, Line};
use super::verdict::{Verdict, compare, obstacles};
use super::{GridRow, Needs, Rendered, Table, count};
use crate::error::Result;
use crate::frame::label::Protocol;
use crate::frame::{Collected, ResultRow};
use crate::published::{self, Number};
use crate::stats::{mean, noise_floor, sample_std};

/// Table 1 of the SoRA paper.
pub struct Table1;

impl Table for Table1 {
    fn name(&self) -> &'static str {
        "table1"
    }

    fn title(&self) -> &'static str {
        "Table 1"
    }

    fn needs(&self) -> Needs {
        Needs::Runs
    }

    fn build(&self, collected: &Collected) -> Result<Option<Rendered>> {
        let results = collected.results()?;
        let Some(first) = results.first() else { return Ok(None) };
        let protocol = Protocol::of(first);
        let columns = task_columns(&results);
        let rows = summarise(&results, &columns);
        let published = published::load()?;
        let mut page = Page { columns: &columns, seeds: usual_seeds(&rows), footnotes: Vec::new() };
        let mut grid = Vec::new();
        let mut lines: Vec<Line> = Vec::new();
        for row in &rows {
            let beside = published::beside(&published, &row.method, &protocol.split, &row.options);
            let compared = Compared::new(row, beside, &columns);
            grid.push(page.ours(row, &compared));
            if let Some(beside) = beside {
                grid.push(page.published(beside));
            }
            lines.extend(table1_data::lines(&protocol, row, &compared, &columns));
        }
        let title = format!("{}: {}, {}", self.title(), protocol.title(), page.seeds_in_words());
        let notes = page.notes(&rows, &results);
        let data = crate::frame::frame(&lines)?;
        Ok(Some(Rendered { title, header: header(&columns), rows: grid, notes, data }))
    }
}

fn header(columns: &[TaskColumn]) -> Vec<String> {
    let fixed = ["Method", "Allocated", "Effective", "As published"].map(str::to_string);
    let tasks = columns.iter().map(|column| match column.name.as_str() {
        "mnli" => format!("{} m/mm", column.title),
        "qqp" => format!("{} Acc/F1", column.title),
        _ => column.title.clone(),
    });
    fixed.into_iter().chain(tasks).chain(["Average".to_string(), "Verdict".to_string()]).collect()
}

/// The commonest number of finished seeds in a cell; cells with another number say so.
fn usual_seeds(rows: &[MethodRow]) -> usize {
    let counts: Vec<usize> = rows.iter().flat_map(|row| row.cells.values().map(|cell| cell.scores.len())).collect();
    let times = |n: usize| counts.iter().filter(|&&count| count == n).count();
    counts.iter().copied().filter(|&n| n > 0).max_by_key(|&n| (times(n), n)).unwrap_or(0)
}

/// One of our rows against the published one.
pub struct Compared<'a> {
    /// The published row.
    pub beside: Option<&'a published::Row>,
    /// Why they cannot be compared; empty when they can.
    pub obstacles: Vec<String>,
    /// Worst verdict of the cells.
    pub verdict: Verdict,
}

impl<'a> Compared<'a> {
    fn new(row: &MethodRow, beside: Option<&'a published::Row>, columns: &[TaskColumn]) -> Self {
        let all: BTreeSet<String> = row.runs.iter().flat_map(|run| obstacles(run, beside)).collect();
        let obstacles: Vec<String> = all.into_iter().collect();
        let mut compared = Compared { beside, obstacles, verdict: Verdict::NotComparable };
        let verdicts = columns.iter().filter_map(|column| {
            let cell = row.cells.get(&column.name).filter(|cell| !cell.scores.is_empty())?;
            (0..column.parts.len()).map(|i| compared.part(column, cell, i)).max()
        });
        compared.verdict = verdicts.max().unwrap_or(Verdict::NotComparable);
        compared
    }

    /// Published number beside part `index` of a cell; a single published number stands beside every part.
    pub fn number(&self, column: &TaskColumn, index: usize) -> Option<&'a Number> {
        let numbers = self.beside?.task(&column.name);
        if numbers.len() == column.parts.len() { numbers.get(index).copied() } else { numbers.first().copied() }
    }

    /// Verdict of one part of a cell.
    pub fn part(&self, column: &TaskColumn, cell: &TaskCell, index: usize) -> Verdict {
        let (Some(number), true) = (self.number(column, index), self.obstacles.is_empty()) else {
            return Verdict::NotComparable;
        };
        let single = self.beside.is_some_and(|row| row.task(&column.name).len() != column.parts.len());
        let ours: Vec<f64> = if single { cell.scores.iter().map(|s| s.score()).collect() } else { cell.part(index) };
        compare(&ours, number.value, part_floor(cell, index).unwrap_or(0.0))
    }
}

/// What one example is worth in a part of a cell, in points.
pub fn part_floor(cell: &TaskCell, index: usize) -> Option<f64> {
    noise_floor(*cell.scores.first()?.examples.get(index)? as usize)
}

struct Page<'a> {
    columns: &'a [TaskColumn],
    seeds: usize,
    footnotes: Vec<String>,
}

impl Page<'_> {
    fn seeds_in_words(&self) -> String {
        match self.seeds {
            0 => "no finished run".into(),
            1 => "1 seed".into(),
            n => format!("{n} seeds"),
        }
    }

    fn ours(&mut self, row: &MethodRow, compared: &Compared) -> GridRow {
        let counts: [fn(&ResultRow) -> Option<i64>; 3] = [|r| r.allocated, |r| r.effective, |r| r.as_published];
        let mut cells = vec![row.title.clone()];
        cells.extend(counts.map(|of| row.mean_count(of).map_or("–".to_string(), count)));
        for column in self.columns {
            let text = row.cells.get(&column.name).map_or("–".to_string(), |cell| self.cell(column, cell));
            cells.push(text);
        }
        cells.push(average_text(row));
        cells.push(self.verdict_text(compared));
        GridRow { cells, sub: false }
    }

    fn cell(&mut self, column: &TaskColumn, cell: &TaskCell) -> String {
        let mut text = if cell.scores.is_empty() {
            match cell.failed.first() {
                Some((_, reason)) => format!("failed: {}", shortened(reason)),
                None => "unfinished".to_string(),
            }
        } else {
            spread((0..column.parts.len()).map(|i| cell.part(i)))
        };
        if !cell.scores.is_empty() && cell.scores.len() != self.seeds {
            text += &format!(" (n={})", cell.scores.len());
        }
        if cell.collapsed() {
            let runs = cell.scores.iter().filter(|s| !s.collapse.is_empty());
            let reasons = runs.map(|s| format!("{} (seed {}): {}", s.run, s.seed, s.collapse));
            text += &format!(" ⚑{}", self.footnote(format!("⚑ collapsed, kept in the mean: {}", join(reasons, "; "))));
        }
        if !cell.failed.is_empty() {
            let reasons = cell.failed.iter().map(|(run, reason)| format!("{run}: {reason}"));
            text += &format!(" ✗{}", self.footnote(format!("✗ failed: {}", join(reasons, "; "))));
        }
        if !cell.unfinished.is_empty() {
            text += &self.footnote(format!("unfinished: {}", cell.unfinished.join(", ")));
        }
        text
    }

    fn verdict_text(&mut self, compared: &Compared) -> String {
        let name = compared.verdict.name().to_string();
        if compared.obstacles.is_empty() {
            return name;
        }
        name + &self.footnote(format!("not comparable: {}", compared.obstacles.join("; ")))
    }

    /// Mark of a footnote; one with the same text is used again.
    fn footnote(&mut self, text: String) -> String {
        let known = self.footnotes.iter().position(|note| *note == text);
        let index = known.unwrap_or_else(|| {
            self.footnotes.push(text);
            self.footnotes.len() - 1
        });
        format!("[{}]", index + 1)
    }

    fn published(&self, row: &published::Row) -> GridRow {
        let mut cells = vec![format!("↳ published: {}", row.label()), String::new(), String::new()];
        cells.push(row.params_millions().map_or(String::new(), |m| format!("{m}M")));
        for column in self.columns {
            let numbers = row.task(&column.name);
            let values = join(numbers.iter().map(|n| format!("{:.2}", n.value)), "/");
            let mark = numbers.iter().map(|n| n.status).max().map_or("", |status| status.mark());
            cells.push(if values.is_empty() { "–".into() } else { values + mark });
        }
        let average = row.task("average").first().map(|n| format!("{:.2}{}", n.value, n.status.mark()));
        cells.push(average.unwrap_or_else(|| "–".into()));
        cells.push(String::new());
        GridRow { cells, sub: true }
    }

    fn notes(self, rows: &[MethodRow], results: &[ResultRow]) -> Vec<String> {
        let mut notes: Vec<String> =
            self.footnotes.iter().enumerate().map(|(i, text)| format!("[{}] {text}.", i + 1)).collect();
        notes.push(format!(
            "Points of 100: mean ± sample standard deviation over seeds ({}; another number of seeds is given as n). \
             Average: mean over the eight tasks after averaging Acc/F1 and m/mm inside QQP and MNLI.",
            self.seeds_in_words()
        ));
        notes.push(
            "Published numbers: no mark, read in the paper; † second-hand; ‡ unverified (recalled, in no copy at hand)."
                .into(),
        );
        notes.push(
            "Verdict, the worst of a row's cells: reproduced, the 95 % t interval over our seeds holds the published \
             value (few seeds make a wide interval: read it with the ±); within noise, outside by at most one example of \
             the split; differs, outside by more; not comparable, another setting, or a single seed outside the noise."
                .into(),
        );
        notes.push(floors(self.columns, rows));
        notes.push(heads(results));
        notes.retain(|note| !note.is_empty());
        notes
    }
}

fn spread(parts: impl Iterator<Item = Vec<f64>>) -> String {
    let parts: Vec<Vec<f64>> = parts.collect();
    let means = join(parts.iter().map(|p| format!("{:.2}", mean(p).unwrap_or(f64::NAN))), "/");
    let stds: Option<Vec<f64>> = parts.iter().map(|p| sample_std(p)).collect();
    stds.map_or(means.clone(), |stds| format!("{means} ± {}", join(stds.iter().map(|s| format!("{s:.2}")), "/")))
}

fn average_text(row: &MethodRow) -> String {
    match row.average() {
        (None, tasks) => format!("– ({tasks}/8)"),
        (Some(value), _) => {
            let seeds: Vec<f64> = row.seed_averages().iter().map(|(_, value)| *value).collect();
            let flag = if row.cells.values().any(TaskCell::collapsed) { " ⚑" } else { "" };
            let std = sample_std(&seeds).map_or(String::new(), |s| format!(" ± {s:.2}"));
            format!("{value:.2}{std}{flag}")
        }
    }
}

fn floors(columns: &[TaskColumn], rows: &[MethodRow]) -> String {
    let of_column = |column: &TaskColumn| {
        let score = rows.iter().find_map(|row| row.cells.get(&column.name)?.scores.first())?;
        let sets: BTreeSet<u64> = score.examples.iter().copied().filter(|&n| n > 0).collect();
        let worth = |n: &u64| Some(format!("{:.2} (n={n})", noise_floor(*n as usize)?));
        Some(format!("{} {}", column.title, join(sets.iter().filter_map(worth), "/")))
    };
    let floors = join(columns.iter().filter_map(of_column), ", ");
    if floors.is_empty() { floors } else { format!("Noise floor, one test example in points: {floors}.") }
}

fn heads(results: &[ResultRow]) -> String {
    let heads: BTreeSet<i64> = results.iter().filter_map(|row| row.head).collect();
    let heads = join(heads.iter().map(|n| if *n == 0 { "0 (frozen)".to_string() } else { n.to_string() }), ", ");
    let counts = "Parameters: allocated, trained adapter values; effective, left after pruning (exact); as published, by \
                  the authors' counter; means over the row's finished runs, head not counted";
    if heads.is_empty() { format!("{counts}.") } else { format!("{counts} (it adds {heads}).") }
}

/// First line, cut to 24 characters.
fn shortened(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or("");
    if line.chars().count() <= 24 { line.into() } else { line.chars().take(23).chain(['…']).collect() }
}

fn join(items: impl Iterator<Item = String>, by: &str) -> String {
    items.collect::<Vec<_>>().join(by)
}
