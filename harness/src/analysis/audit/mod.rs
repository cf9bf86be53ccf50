//! Audit of a published table: values that no mean can print, averages that do not follow from their cells, rows that repeat another
//! row's digits.

pub mod assumed;
pub mod averages;
pub mod decimal;
pub mod grim;
pub mod printed;
pub mod read;
pub mod repeats;
pub mod values;

use std::collections::BTreeMap;

use crate::analysis::audit::assumed::{Assumed, Given, Settings};
use crate::analysis::audit::averages::{AverageRow, average_row};
use crate::analysis::audit::printed::PrintedRow;
use crate::analysis::audit::read::parse;
use crate::analysis::audit::repeats::{RepeatRow, SettingRow, repeats};
use crate::analysis::audit::values::{ValueRow, value_rows};
use crate::analysis::literature::LITERATURE;
use crate::analysis::published::TABLES;
use crate::error::Result;

/// Everything found about a table.
#[derive(Debug, Clone)]
pub struct Audit {
    /// Its rows with their assumed settings, in its order.
    pub rows: Vec<(PrintedRow, Assumed)>,
    /// Every number of a task.
    pub values: Vec<ValueRow>,
    /// Every printed average.
    pub averages: Vec<AverageRow>,
    /// Rows with the digits of another.
    pub repeats: Vec<RepeatRow>,
}

impl Audit {
    /// Audits a table; `name` is the file's.
    ///
    /// # Errors
    /// As [`parse`].
    pub fn of(name: &str, text: &str, given: Given) -> Result<Self> {
        let settings = Settings::load()?;
        let rows = with_settings(parse(name, text)?, &settings, given);
        let mut published = Vec::new();
        for (file, text) in TABLES.into_iter().chain([("literature.csv", LITERATURE)]) {
            published.extend(with_settings(parse(file, text)?, &settings, Given::default()));
        }
        let values = rows.iter().flat_map(|(row, assumed)| value_rows(row, assumed)).collect();
        let averages = rows.iter().filter_map(|(row, _)| average_row(row)).collect();
        let repeats = repeats(&borrowed(&rows), &borrowed(&published));
        Ok(Audit { rows, values, averages, repeats })
    }

    /// Scored rows of the tasks' development sets that the assumed splits give, by split: `RTE 139`.
    pub fn scored_rows(&self) -> BTreeMap<&'static str, Vec<String>> {
        let mut found: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        for (row, assumed) in &self.rows {
            let texts = found.entry(assumed.split.name()).or_default();
            for cell in row.cells.iter().filter(|cell| cell.is_accuracy) {
                let rows = values::examples(cell, assumed.split).map_or("unknown".into(), |rows| rows.to_string());
                let set = if cell.metric == cell.set.name { format!(" {}", cell.set.name) } else { String::new() };
                let text = format!("{}{set} {rows}", cell.title);
                if !texts.contains(&text) {
                    texts.push(text);
                }
            }
        }
        found
    }
}

fn with_settings(rows: Vec<PrintedRow>, settings: &Settings, given: Given) -> Vec<(PrintedRow, Assumed)> {
    let assumed = |row: PrintedRow| {
        let assumed = settings.assumed(&row, given);
        (row, assumed)
    };
    rows.into_iter().map(assumed).collect()
}

fn borrowed(rows: &[(PrintedRow, Assumed)]) -> Vec<SettingRow<'_>> {
    rows.iter().map(|(row, assumed)| SettingRow { row, assumed }).collect()
}
