//! Table 1: every method on every task, beside the published numbers, with a verdict.

use std::collections::BTreeSet;

use crate::analysis::columns::{TaskColumn, task_columns};
use crate::analysis::comparability::trained_on;
use crate::analysis::comparison::{PartComparison, RowComparison};
use crate::analysis::frame::group::Protocol;
use crate::analysis::frame::{Collected, ResultRow};
use crate::analysis::published;
use crate::analysis::stats::{mean, noise_floor, sample_std};
use crate::analysis::summary::{MethodRow, TaskCell, summarise};
use crate::analysis::table1_rows::{self, Line};
use crate::analysis::verdict::Verdict;
use crate::error::Result;
use crate::report::tables::{GridRow, Needs, Rendered, Table, count};

/// Most reasons of some tasks only that a footnote spells out.
const MOST_REASONS: usize = 4;

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
            let compared = RowComparison::new(row, beside, &columns, collected.margin);
            grid.push(page.ours(row, &compared));
            if let Some(beside) = beside {
                grid.push(page.published(beside));
            }
            lines.extend(table1_rows::lines(&protocol, row, &compared, &columns));
        }
        let title = format!("{}: {}, {}", self.title(), protocol.title(), page.seeds_in_words());
        let notes = page.notes(&rows, &results, collected);
        let data = crate::analysis::frame::frame(&lines)?;
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

/// Resolution of the split behind a part of a cell: what one example is worth, in points.
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

    fn ours(&mut self, row: &MethodRow, compared: &RowComparison) -> GridRow {
        let counts: [fn(&ResultRow) -> Option<i64>; 3] = [|r| r.allocated, |r| r.effective, |r| r.as_published];
        let mut cells = vec![row.title.clone() + &self.mixture(row)];
        cells.extend(counts.map(|of| row.mean_count(of).map_or("–".to_string(), count)));
        for column in self.columns {
            let text = row.cells.get(&column.name).map_or("–".to_string(), |cell| self.cell(column, cell));
            cells.push(text + &self.seen_mark(row, column));
        }
        cells.push(average_text(row));
        cells.push(self.verdict_text(compared));
        GridRow { cells, sub: false }
    }

    fn cell(&mut self, column: &TaskColumn, cell: &TaskCell) -> String {
        let mut text = if cell.scores.is_empty() {
            match cell.failed.first() {
                Some((_, reason)) if reason.starts_with("damaged") => "damaged".to_string(),
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
            text += &format!(" ✗{}", self.footnote(format!("✗ failed or damaged: {}", join(reasons, "; "))));
        }
        if !cell.unfinished.is_empty() {
            text += &self.footnote(format!("unfinished: {}", cell.unfinished.join(", ")));
        }
        text
    }

    /// Mark of a cell whose task the backbone was trained on.
    fn seen_mark(&mut self, row: &MethodRow, column: &TaskColumn) -> String {
        let run = row.runs.iter().find(|run| run.task == column.name);
        let Some(known) = run.and_then(trained_on) else { return String::new() };
        let titles = self.columns.iter().filter(|c| known.seen.contains(&c.name)).map(|c| c.title.clone());
        let note = format!("§ {} was trained on {}: {}", known.name, join(titles, ", "), known.remark);
        format!(" §{}", self.footnote(note))
    }

    /// Mark of a row whose runs were made by programs of different numeric versions.
    fn mixture(&mut self, row: &MethodRow) -> String {
        let versions: BTreeSet<u64> = row.runs.iter().map(|run| run.numerics).collect();
        if versions.len() < 2 {
            return String::new();
        }
        let (versions, commits) = (join(versions.iter().map(u64::to_string), ", "), row.distinct(|run| &run.commit));
        format!(
            " ⚠{}",
            self.footnote(format!(
                "⚠ mixes numeric versions {versions} (commits {commits}): numbers may have changed between them"
            ))
        )
    }

    /// Verdict of the average and of the cells, with the reasons in footnotes.
    fn verdict_text(&mut self, compared: &RowComparison) -> String {
        let counts = compared.counts();
        let cells = join(counts.iter().map(|(verdict, n)| format!("{n} {}", verdict.name())), ", ");
        let only = counts.iter().all(|(verdict, _)| *verdict == Verdict::NotComparable);
        let mut text = match only && compared.average.verdict == Verdict::NotComparable {
            true => Verdict::NotComparable.name().to_string(),
            false => format!("average {}; cells: {cells}", verdict_word(&compared.average)),
        };
        for note in self.reasons(compared) {
            text += &self.footnote(note);
        }
        text
    }

    /// Reasons of what is not comparable, each with its tasks; what an undecided or differing number comes to; what is not stated.
    fn reasons(&self, compared: &RowComparison) -> Vec<String> {
        let mut notes = Vec::new();
        let by_reason = self.by_reason(compared);
        if !by_reason.is_empty() {
            notes.push(format!("not comparable: {}", join(by_reason.into_iter(), "; ")));
        }
        let decided = self.columns.iter().flat_map(|column| {
            let parts = compared.cells.get(&column.name).into_iter().flatten();
            parts.filter_map(|part| Some(format!("{} {}", part_title(column, part), evidence(part)?)))
        });
        let average = evidence(&compared.average).map(|text| format!("average {text}"));
        let decided = join(decided.chain(average), "; ");
        if !decided.is_empty() {
            notes.push(decided);
            if !compared.not_stated.is_empty() {
                let fields = join(compared.not_stated.iter().map(ToString::to_string), ", ");
                notes.push(format!("not stated by the publication, and so not compared: {fields}"));
            }
        }
        notes
    }

    fn by_reason(&self, compared: &RowComparison) -> Vec<String> {
        let run: Vec<&TaskColumn> = self.columns.iter().filter(|c| compared.cells.contains_key(&c.name)).collect();
        let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
        for column in &run {
            for reason in compared.cells.get(&column.name).into_iter().flatten().flat_map(|part| &part.reasons) {
                match reasons.iter_mut().find(|(known, _)| known == reason) {
                    Some((_, titles)) if titles.contains(&column.title) => {}
                    Some((_, titles)) => titles.push(column.title.clone()),
                    None => reasons.push((reason.clone(), vec![column.title.clone()])),
                }
            }
        }
        let (of_all, of_some): (Vec<_>, Vec<_>) =
            reasons.into_iter().partition(|(_, titles)| titles.len() == run.len());
        let mut texts: Vec<String> = of_all.into_iter().map(|(reason, _)| reason).collect();
        if of_some.len() <= MOST_REASONS {
            texts.extend(of_some.into_iter().map(|(reason, titles)| format!("{reason} ({})", titles.join(", "))));
        } else {
            // A reason begins with the setting's name.
            let names: BTreeSet<String> =
                of_some.iter().filter_map(|(r, _)| r.split(' ').next()).map(str::to_string).collect();
            texts.push(format!("on some tasks other {} (each in table1.csv)", join(names.into_iter(), ", ")));
        }
        texts
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

    fn notes(self, rows: &[MethodRow], results: &[ResultRow], collected: &Collected) -> Vec<String> {
        let mut notes: Vec<String> =
            self.footnotes.iter().enumerate().map(|(i, text)| format!("[{}] {text}.", i + 1)).collect();
        notes.push(format!(
            "Points of 100 on the test split: mean ± sample standard deviation over seeds ({}; another number of seeds is given as \
             n). Average: mean over the eight tasks after averaging Acc/F1 and m/mm inside QQP and MNLI.",
            self.seeds_in_words()
        ));
        notes.push(
            "Published numbers: no mark, read in the paper; † second-hand; ‡ unverified (recalled, in no copy at hand)."
                .into(),
        );
        notes.push(format!(
            "Verdicts compare two means, so the published one has an error too (s·√(1/n + 1/m), m runs): reproduced, the 90 % interval \
             of the difference lies within ±{} points (in a cell at least two test examples); differs, p < 0.05, in a cell after Holm's \
             correction over the row; undecided, neither; not comparable, another setting or metric, or fewer than two seeds.",
            collected.margin
        ));
        if !collected.superseded.is_empty() {
            notes.push(format!(
                "Left out, since a run of a later numeric version stands for each: {}.",
                collected.superseded.join(", ")
            ));
        }
        notes.push(floors(self.columns, rows));
        notes.push(heads(results));
        notes.retain(|note| !note.is_empty());
        notes
    }
}

/// The verdict's word, with the direction of a difference.
fn verdict_word(part: &PartComparison) -> String {
    match (part.verdict, part.test) {
        (Verdict::Differs, Some(test)) => {
            format!("differs ({})", if test.difference < 0.0 { "lower" } else { "higher" })
        }
        (verdict, _) => verdict.name().into(),
    }
}

fn part_title(column: &TaskColumn, part: &PartComparison) -> String {
    if column.parts.len() < 2 {
        column.title.clone()
    } else {
        format!("{} {}", column.title, part.number.map_or("", |n| &n.metric))
    }
}

/// The numbers behind a verdict; none for what is not comparable.
fn evidence(part: &PartComparison) -> Option<String> {
    let test = part.test.filter(|_| part.verdict != Verdict::NotComparable)?;
    let p = part.p_holm.unwrap_or(test.p);
    let found = format!(
        "{} {:+.2} [{:.2}, {:.2}], p {p:.3}",
        verdict_word(part),
        test.difference,
        test.interval.low,
        test.interval.high
    );
    if part.verdict != Verdict::Undecided {
        return Some(found);
    }
    let seeds = match test.seeds_needed() {
        Some(seeds) => format!("±{:.2} takes {seeds} seeds", test.margin),
        None => format!("±{:.2} cannot be decided against a mean of {} runs", test.margin, test.published_runs),
    };
    Some(format!("{found} ({} seeds could have shown {:.2}; {seeds})", test.seeds, test.detectable))
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
