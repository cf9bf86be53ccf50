//! Table 1: every method on every task, beside the published numbers, with a verdict.

use crate::analysis::columns::TaskColumn;
use crate::analysis::comparability::trained_on;
use crate::analysis::comparison::{ComparisonRow, MethodComparison, comparison, usual_seeds};
use crate::analysis::frame::typed::Frame;
use crate::analysis::published::{self, PublishedRow};
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::analysis::row_comparison::RowComparison;
use crate::analysis::summary::{MethodRow, Score, TaskCell};
use crate::analysis::verdict::Verdict;
use crate::error::Result;
use crate::report::formats::format::join;
use crate::report::table::{Table, TableDoc};
use crate::report::tables::cells::{ABSENT, count_or_absent};
use crate::report::tables::footnotes::Footnotes;
use crate::report::tables::table1_notes::{notes, reasons, seeds_in_words, verdict_word};

/// Longest reason in a cell, in characters.
const LONGEST: usize = 24;

/// Table 1 of the SoRA paper.
pub struct Table1;

impl Table for Table1 {
    fn name(&self) -> &'static str {
        "table1"
    }

    fn title(&self) -> &'static str {
        "Table 1"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        let published = published::load()?;
        frame.groups.iter().map(|group| document(self.title(), frame, group, &published)).collect()
    }
}

fn document(title: &str, frame: &ResultsFrame, group: &GroupResults, published: &[PublishedRow]) -> Result<TableDoc> {
    let methods = comparison(group, published, frame.margin);
    let mut page =
        Page { columns: &group.columns, seeds: usual_seeds(&group.methods), footnotes: Footnotes::default() };
    let mut rows = Vec::new();
    for method in &methods {
        rows.push(page.ours(method));
        // A published row with none of the columns has nothing to stand beside.
        let fits = |row: &&PublishedRow| group.columns.iter().any(|column| !row.task(&column.name).is_empty());
        rows.extend(method.against.published.filter(fits).map(|published| page.published(published)));
    }
    let data: Vec<&ComparisonRow> = methods.iter().flat_map(|method| &method.rows).collect();
    Ok(TableDoc {
        title: format!("{title}: {}, {}", group.group.title(), seeds_in_words(page.seeds)),
        header: header(&group.columns),
        rows,
        notes: page.footnotes.lines().chain(notes(frame, group, page.seeds)).collect(),
        data: Frame::from_rows(data)?.into_data(),
    })
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

struct Page<'a> {
    columns: &'a [TaskColumn],
    seeds: usize,
    footnotes: Footnotes,
}

impl Page<'_> {
    fn ours(&mut self, compared: &MethodComparison) -> Vec<String> {
        let row = compared.method;
        let mut cells = vec![row.title.clone() + &self.mixture(row)];
        let counts = compared.rows.first().map(|numbers| [numbers.allocated, numbers.effective, numbers.as_published]);
        cells.extend(counts.unwrap_or_default().map(count_or_absent));
        for column in self.columns {
            let cell = row.cells.get(&column.name);
            let text = cell.map_or(ABSENT.to_string(), |cell| self.cell(cell, compared.of_task(&column.name)));
            cells.push(text + &cell.map_or(String::new(), |cell| self.seen_mark(cell)));
        }
        cells.push(average_text(compared));
        cells.push(self.verdict_text(&compared.against));
        cells
    }

    fn cell<'r>(&mut self, cell: &TaskCell, numbers: impl Iterator<Item = &'r ComparisonRow>) -> String {
        let mut text = if cell.scores.is_empty() {
            match cell.failed.first() {
                Some((_, reason)) if reason.starts_with("damaged") => "damaged".to_string(),
                Some((_, reason)) => format!("failed: {}", shortened(reason)),
                None => "unfinished".to_string(),
            }
        } else {
            spread(&numbers.collect::<Vec<_>>())
        };
        if !cell.scores.is_empty() && cell.scores.len() != self.seeds {
            text += &format!(" (n={})", cell.scores.len());
        }
        if cell.collapsed() > 0 {
            let rows = cell.scores.iter().filter(|score| score.run.is_collapsed()).map(|score| &score.run.row);
            let reasons = rows.map(|row| format!("{} (seed {}): {}", row.run, row.seed, row.collapse));
            let note = format!("⚑ collapsed, kept in the mean: {}", join(reasons, "; "));
            text += &format!(" ⚑{}", self.footnotes.mark(note));
        }
        if let Some(note) = early(cell) {
            text += &format!(" ◇{}", self.footnotes.mark(note));
        }
        if !cell.failed.is_empty() {
            let reasons = cell.failed.iter().map(|(run, reason)| format!("{run}: {reason}"));
            let note = format!("✗ failed or damaged: {}", join(reasons, "; "));
            text += &format!(" ✗{}", self.footnotes.mark(note));
        }
        if !cell.unfinished.is_empty() {
            text += &self.footnotes.mark(format!("unfinished: {}", cell.unfinished.join(", ")));
        }
        text
    }

    /// Mark of a cell whose task the backbone was trained on.
    fn seen_mark(&mut self, cell: &TaskCell) -> String {
        let Some(known) = cell.runs.first().and_then(|run| trained_on(&run.row)) else { return String::new() };
        let titles = self.columns.iter().filter(|c| known.seen.contains(&c.name)).map(|c| c.title.clone());
        let note = format!("§ {} was trained on {}: {}", known.name, join(titles, ", "), known.remark);
        format!(" §{}", self.footnotes.mark(note))
    }

    /// Mark of a row whose runs were made by programs of different numeric versions.
    fn mixture(&mut self, row: &MethodRow) -> String {
        let versions = row.numerics();
        if versions.len() < 2 {
            return String::new();
        }
        let (versions, commits) = (join(versions.iter().map(u64::to_string), ", "), row.distinct(|run| &run.commit));
        let note =
            format!("⚠ mixes numeric versions {versions} (commits {commits}): numbers may have changed between them");
        format!(" ⚠{}", self.footnotes.mark(note))
    }

    /// Verdict of the average and of the cells, with the reasons in footnotes.
    fn verdict_text(&mut self, against: &RowComparison) -> String {
        let counts = against.counts();
        let cells = join(counts.iter().map(|(verdict, n)| format!("{n} {}", verdict.name())), ", ");
        let only = counts.iter().all(|(verdict, _)| *verdict == Verdict::NotComparable);
        let mut text = match only && against.average.verdict == Verdict::NotComparable {
            true => Verdict::NotComparable.name().to_string(),
            false => format!("average {}; cells: {cells}", verdict_word(&against.average)),
        };
        for note in reasons(self.columns, against) {
            text += &self.footnotes.mark(note);
        }
        text
    }

    fn published(&self, row: &PublishedRow) -> Vec<String> {
        let mut cells = vec![format!("↳ published: {}", row.label()), String::new(), String::new()];
        cells.push(row.params_millions().map_or(String::new(), |m| format!("{m}M")));
        for column in self.columns {
            let numbers = row.task(&column.name);
            let values = join(numbers.iter().map(|n| format!("{:.2}", n.value)), "/");
            let mark = numbers.iter().map(|n| n.status).max().map_or("", |status| status.mark());
            cells.push(if values.is_empty() { ABSENT.into() } else { values + mark });
        }
        let average = row.task("average").first().map(|n| format!("{:.2}{}", n.value, n.status.mark()));
        cells.push(average.unwrap_or_else(|| ABSENT.into()));
        cells.push(String::new());
        cells
    }
}

/// Note on the runs of a cell whose checkpoint was chosen before their rank budget was reached.
fn early(cell: &TaskCell) -> Option<String> {
    let of_score = |score: &Score| {
        let row = &score.run.row;
        Some(format!("{} (seed {}; final from step {})", row.run, row.seed, score.run.budget_after?))
    };
    let runs: Vec<String> = cell.scores.iter().filter_map(of_score).collect();
    (!runs.is_empty()).then(|| {
        format!(
            "◇ checkpoint chosen before the rank budget was reached, so its counts are not those of the budget: {}",
            runs.join(", ")
        )
    })
}

/// Means of the parts, and their deviations where each has one: `91.99/89.38 ± 0.10/0.12`.
fn spread(numbers: &[&ComparisonRow]) -> String {
    let means = join(numbers.iter().map(|n| format!("{:.2}", n.mean.unwrap_or(f64::NAN))), "/");
    match numbers.iter().map(|n| n.std).collect::<Option<Vec<f64>>>() {
        Some(stds) => format!("{means} ± {}", join(stds.iter().map(|s| format!("{s:.2}")), "/")),
        None => means,
    }
}

fn average_text(compared: &MethodComparison) -> String {
    let (value, tasks) = compared.method.average();
    let Some(value) = value else { return format!("{ABSENT} ({tasks}/8)") };
    let numbers = compared.of_task("average").next();
    let std = numbers.and_then(|n| n.std).map_or(String::new(), |s| format!(" ± {s:.2}"));
    let flag = if numbers.is_some_and(|n| n.collapsed > 0) { " ⚑" } else { "" };
    format!("{value:.2}{std}{flag}")
}

/// First line, cut to [`LONGEST`] characters.
fn shortened(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or("");
    match line.chars().count() <= LONGEST {
        true => line.into(),
        false => line.chars().take(LONGEST - 1).chain(['…']).collect(),
    }
}
