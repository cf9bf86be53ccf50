//! A published table from CSV: a line for each number (as results/published/sora_table1.csv), or a line for each row with a column for
//! each task (as results/published/literature.csv).

use datasets::Task;
use datasets::lines::line_of;
use datasets::tasks::TASKS;

use crate::analysis::audit::printed::{PrintedRow, cell, cells, is_called, number};
use crate::error::{Error, Result};

/// Column of the printed average, and the task that stands for it where each number has a line.
const AVERAGE: &str = "average";
/// Columns that are known beside the tasks.
const COLUMNS: [&str; 15] = [
    "table",
    "method",
    "label",
    "backbone",
    "split",
    "runs",
    "task",
    "metric",
    "value",
    AVERAGE,
    "params_millions",
    "provenance",
    "source",
    "status",
    "remark",
];

/// Reads a table; `name` stands in messages and is the table's name where no column says another.
///
/// # Errors
/// A column, task, metric or split of an unknown name; a field that is no printed number; values that are not in points of 100.
pub fn parse(name: &str, text: &str) -> Result<Vec<PrintedRow>> {
    let bad = |e: csv::Error| Error::Input(format!("{name}: {e}"));
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let columns = Columns::of(name, reader.headers().map_err(bad)?)?;
    let mut rows: Vec<PrintedRow> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(bad)?;
        let line = || record.position().map_or(1, |at| line_of(text, at.byte()));
        let found = columns.row(&record).map_err(|e| at(name, line(), &e))?;
        match rows.iter_mut().find(|row| columns.is_long() && row.table == found.table && row.label == found.label) {
            Some(row) => join(row, found).map_err(|e| at(name, line(), &e))?,
            None => rows.push(found),
        }
    }
    check(name, &rows)?;
    Ok(rows)
}

/// An error of one line, of the same kind.
fn at(name: &str, line: usize, error: &Error) -> Error {
    let text = format!("{name}, line {line}: {error}");
    if matches!(error, Error::Usage(_)) { Error::Usage(text) } else { Error::Input(text) }
}

/// Positions of the columns.
struct Columns {
    table: String,
    named: Vec<(String, usize)>,
    tasks: Vec<(&'static Task, usize)>,
}

impl Columns {
    fn of(name: &str, headers: &csv::StringRecord) -> Result<Self> {
        let stem = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".csv").to_string();
        let mut columns = Columns { table: stem, named: Vec::new(), tasks: Vec::new() };
        for (index, head) in headers.iter().enumerate() {
            let head = head.trim_start_matches('\u{feff}').to_lowercase();
            let is_twice =
                columns.at(&head).is_some() || columns.tasks.iter().any(|(known, _)| is_called(known, &head));
            if is_twice {
                return Err(Error::Input(format!("{name}: there are two columns '{head}'")));
            }
            match TASKS.iter().find(|task| is_called(task, &head)) {
                Some(task) => columns.tasks.push((*task, index)),
                None if COLUMNS.contains(&head.as_str()) => columns.named.push((head, index)),
                None => {
                    let known = COLUMNS.iter().copied().chain(TASKS.iter().map(|task| task.name));
                    return Err(Error::Usage(format!("{name}: {}", datasets::Error::unknown("column", &head, known))));
                }
            }
        }
        columns.check(name)?;
        Ok(columns)
    }

    fn check(&self, name: &str) -> Result<()> {
        let has = |column: &str| self.at(column).is_some();
        let is_wide = !self.tasks.is_empty() || has(AVERAGE);
        let expected = match (self.is_long(), is_wide) {
            (true, true) => "columns 'task' and 'value', or a column for each task: not both",
            (true, false) if !(has("task") && has("value")) => "both columns 'task' and 'value'",
            (false, _) if self.tasks.is_empty() => {
                "columns 'task' and 'value' with a line for each number, or a column for each task"
            }
            _ if !(has("label") || has("method")) => "a column 'label' or 'method' that names the rows",
            _ => return Ok(()),
        };
        Err(Error::Usage(format!("{name}: expected {expected}")))
    }

    /// Whether each number has a line of its own.
    fn is_long(&self) -> bool {
        ["task", "metric", "value"].iter().any(|column| self.at(column).is_some())
    }

    fn at(&self, column: &str) -> Option<usize> {
        self.named.iter().find(|(name, _)| name == column).map(|(_, index)| *index)
    }

    /// Text of a column; empty where there is none.
    fn text<'a>(&self, record: &'a csv::StringRecord, column: &str) -> &'a str {
        self.at(column).and_then(|index| record.get(index)).unwrap_or_default()
    }

    fn row(&self, record: &csv::StringRecord) -> Result<PrintedRow> {
        let text = |column: &str| self.text(record, column);
        let or =
            |column: &str, other: &str| if text(column).is_empty() { other.into() } else { text(column).to_string() };
        let mut row = PrintedRow {
            table: or("table", &self.table),
            method: text("method").into(),
            label: or("label", text("method")),
            backbone: text("backbone").into(),
            split: stated(text("split")).map(str::parse).transpose()?,
            runs: stated(text("runs")).map(runs).transpose()?,
            cells: Vec::new(),
            average: None,
        };
        if row.label.is_empty() {
            return Err(Error::Input("expected a label or a method that names the row".into()));
        }
        match self.is_long() {
            true if text("task").to_lowercase() == AVERAGE => row.average = number(text("value"))?,
            true => row.cells.extend(cell(text("task"), text("metric"), text("value"))?),
            false => {
                row.average = number(text(AVERAGE))?;
                for (task, index) in &self.tasks {
                    row.cells.extend(cells(task, record.get(*index).unwrap_or_default())?);
                }
            }
        }
        Ok(row)
    }
}

/// A setting, where it is stated.
fn stated(text: &str) -> Option<&str> {
    (!text.is_empty() && text != "unknown").then_some(text)
}

fn runs(text: &str) -> Result<usize> {
    let runs = text.parse().ok().filter(|runs| *runs > 0);
    runs.ok_or_else(|| Error::Input(format!("runs: expected a whole number above 0, got '{text}'")))
}

/// Adds the number of a line to its row.
fn join(row: &mut PrintedRow, found: PrintedRow) -> Result<()> {
    for cell in found.cells {
        if row.cells.iter().any(|known| known.task == cell.task && known.metric == cell.metric) {
            return Err(Error::Input(format!("{} has a second {} of {}", row.label, cell.metric, cell.title)));
        }
        row.cells.push(cell);
    }
    match (row.average, found.average) {
        (Some(_), Some(_)) => Err(Error::Input(format!("{} has a second average", row.label))),
        (_, average) => {
            row.average = row.average.or(average);
            Ok(())
        }
    }
}

/// Refuses a table without numbers, and one of shares of 1.
fn check(name: &str, rows: &[PrintedRow]) -> Result<()> {
    let mut cells = rows.iter().flat_map(|row| &row.cells).peekable();
    if cells.peek().is_none() {
        return Err(Error::Input(format!("{name} holds no number of a task")));
    }
    match cells.all(|cell| cell.value.value().abs() <= 1.0) {
        true => Err(Error::Input(format!("{name}: no value is above 1: expected points of 100, such as 87.36"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::audit::decimal::Decimal;

    #[test]
    fn both_forms_say_the_same() {
        let long = "label,task,metric,value\nLoRA,mnli,matched,90.65\nLoRA,mnli,mismatched,90.69\nLoRA,sst2,,94.95\n\
                    LoRA,qqp,accuracy,91.99\nLoRA,qqp,f1,89.38\nLoRA,average,average,88.34\n";
        let wide = "label,MNLI,SST-2,CoLA,qqp,average\nLoRA,90.65/90.69,94.95,,91.99 / 89.38,88.34\n";
        let rows = parse("a/mine.csv", long).unwrap();
        assert_eq!(rows, parse("mine.csv", wide).unwrap());
        let tasks: Vec<(&str, usize)> = rows[0].tasks().iter().map(|(task, cells)| (*task, cells.len())).collect();
        assert_eq!(tasks, [("mnli", 2), ("sst2", 1), ("qqp", 2)]);
        assert_eq!((rows[0].table.as_str(), rows[0].average), ("mine", Decimal::parse("88.34")));
        assert_eq!(
            rows[0].cells.iter().map(|cell| cell.is_accuracy).collect::<Vec<_>>(),
            [true, true, true, true, false]
        );
    }

    #[test]
    fn numbers_of_a_row_are_joined_and_lines_of_a_wide_table_are_not() {
        let rows = parse("a.csv", "table,label,task,value\na,x,rte,80.1\nb,x,rte,80.2\na,x,mrpc,88.0\n").unwrap();
        assert_eq!(rows.iter().map(|row| row.cells.len()).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(parse("a.csv", "label,rte\nx,80.1\nx,80.2\n").unwrap().len(), 2);
    }
}
