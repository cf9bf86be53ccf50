//! Table 2: score and counts of each rank or maximum rank.

use crate::analysis::frame::typed::Frame;
use crate::analysis::published::{self, Status};
use crate::analysis::rank_sweep::{RankSweepRow, SweepRow, rank_sweep, sweep_rows};
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::error::Result;
use crate::report::table::{Table, TableDoc};
use crate::report::tables::cells::{ABSENT, count, count_or_absent, spread};

/// Table 2 of the SoRA paper.
pub struct Table2;

impl Table for Table2 {
    fn name(&self) -> &'static str {
        "table2"
    }

    fn title(&self) -> &'static str {
        "Table 2, ranks"
    }

    fn build(&self, frame: &ResultsFrame) -> Result<Vec<TableDoc>> {
        let published = published::load()?;
        let of_group = |group: &GroupResults| {
            let rows = sweep_rows(group);
            let numbers = rank_sweep(group, &rows, &published);
            (!rows.is_empty()).then(|| document(self.title(), group, &rows, &numbers))
        };
        frame.groups.iter().filter_map(of_group).collect()
    }
}

fn document(title: &str, group: &GroupResults, rows: &[SweepRow], numbers: &[RankSweepRow]) -> Result<TableDoc> {
    let tasks: Vec<(&str, &str)> = group
        .columns
        .iter()
        .filter(|column| numbers.iter().any(|number| number.task == column.name))
        .map(|column| (column.name.as_str(), column.title.as_str()))
        .chain([("average", "Average")])
        .collect();
    let fixed = ["Row", "Rank", "Allocated", "Effective", "As published"].map(str::to_string);
    let lines = rows.iter().flat_map(|row| {
        let own: Vec<&RankSweepRow> = numbers
            .iter()
            .filter(|number| (&number.method, &number.label) == (&row.method.method, &row.method.label))
            .collect();
        let published = own.iter().any(|number| number.published.is_some()).then(|| published_line(&own, &tasks));
        std::iter::once(line(row, &own, &tasks)).chain(published)
    });
    Ok(TableDoc {
        title: format!("{title}: {}", group.group.title()),
        header: fixed.into_iter().chain(tasks.iter().map(|(_, title)| title.to_string())).collect(),
        rows: lines.collect(),
        notes: vec![
            "Score of the task in points of 100 (mean ± sample standard deviation over seeds), and in brackets the values left after \
             pruning. The three counts in front are means over all runs of the row; table2.csv has those of each task."
                .into(),
            "Published rows stand below the rank that they state († second-hand, ‡ unverified); the setting may differ, see Table 1's \
             verdicts."
                .into(),
        ],
        data: Frame::from_rows(numbers)?.into_data(),
    })
}

fn line(row: &SweepRow, own: &[&RankSweepRow], tasks: &[(&str, &str)]) -> Vec<String> {
    let average = own.iter().find(|number| number.task == "average");
    let counts = average.map(|number| [number.allocated, number.effective, number.as_published]).unwrap_or_default();
    let cell = |task: &str| match own.iter().find(|number| number.task == task) {
        Some(number) if number.score.is_some() => {
            let values = number.effective.filter(|_| task != "average");
            spread(number.score, number.std) + &values.map_or(String::new(), |values| format!(" ({})", count(values)))
        }
        _ => ABSENT.to_string(),
    };
    let mut cells = vec![row.method.title.clone(), row.rank.to_string()];
    cells.extend(counts.map(count_or_absent));
    cells.extend(tasks.iter().map(|(task, _)| cell(task)));
    cells
}

fn published_line(own: &[&RankSweepRow], tasks: &[(&str, &str)]) -> Vec<String> {
    let cell = |task: &str| {
        let number = own.iter().find(|number| number.task == task);
        let value = number
            .and_then(|number| Some(format!("{:.2}{}", number.published?, Status::mark_of(&number.published_status))));
        value.unwrap_or_else(|| ABSENT.into())
    };
    let label = own.first().map_or("", |number| number.published_label.as_str());
    let mut cells = vec![format!("↳ published: {label}")];
    cells.extend(std::iter::repeat_n(String::new(), 4));
    cells.extend(tasks.iter().map(|(task, _)| cell(task)));
    cells
}
