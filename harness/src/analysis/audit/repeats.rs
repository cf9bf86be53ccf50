//! Rows that repeat another row's digits: of the same table, or of a published one.

use methods::registry::METHODS;
use serde::Serialize;

use crate::analysis::audit::assumed::{Assumed, Origin};
use crate::analysis::audit::printed::{Cell, PrintedRow};
use crate::analysis::frame::typed::frame_rows;

/// Fewest tasks with equal digits: two rows may share one or two values by chance, as accuracies on few examples are coarse.
pub const FEWEST: usize = 3;
/// Word for digits that stand under two settings.
pub const OTHER_SETTING: &str = "other setting";
/// Word for digits that stand twice under one setting, as far as it is stated: copied, or cited twice.
pub const SAME_SETTING: &str = "same as far as stated";

frame_rows! {
    /// A row that has the digits of another one.
    #[derive(Serialize)]
    pub struct RepeatRow {
        /// Table.
        table: String,
        /// Row label.
        label: String,
        /// Table of the other row.
        other_table: String,
        /// Its label.
        other_label: String,
        /// Tasks whose numbers are equal, joined by blanks.
        tasks: String,
        /// How many.
        equal: u64,
        /// How many tasks both rows have.
        common: u64,
        /// Settings in which the rows differ, joined by `; `; empty where none is known to.
        differing: String,
        /// `other setting` or `same as far as stated`.
        word: String,
    }
}

/// A row with its setting.
#[derive(Clone, Copy)]
pub struct SettingRow<'a> {
    /// The row.
    pub row: &'a PrintedRow,
    /// Its assumed setting.
    pub assumed: &'a Assumed,
}

/// Pairs of rows with equal digits in [`FEWEST`] tasks or more: the rows of a table among themselves, and against the published ones.
pub fn repeats(own: &[SettingRow], published: &[SettingRow]) -> Vec<RepeatRow> {
    let mut found = Vec::new();
    for (index, row) in own.iter().enumerate() {
        let is_other = |other: &&SettingRow| (&other.row.table, &other.row.label) != (&row.row.table, &row.row.label);
        // A published table that is audited meets itself among the published ones.
        let is_elsewhere = |other: &&SettingRow| own.iter().all(|own| own.row.table != other.row.table);
        let others = published.iter().filter(is_other).filter(is_elsewhere);
        found.extend(own[..index].iter().chain(others).filter_map(|other| repeat(row, other)));
    }
    found
}

fn repeat(row: &SettingRow, other: &SettingRow) -> Option<RepeatRow> {
    let theirs = other.row.tasks();
    let of_task = |(task, cells): (&'static str, Vec<&Cell>)| {
        let (_, others) = theirs.iter().find(|(known, _)| *known == task)?;
        Some((task, same_digits(&cells, others)))
    };
    let common: Vec<(&str, bool)> = row.row.tasks().into_iter().filter_map(of_task).collect();
    let equal: Vec<&str> = common.iter().filter(|(_, is_equal)| *is_equal).map(|(task, _)| *task).collect();
    if equal.len() < FEWEST {
        return None;
    }
    let differing = differing(row, other);
    Some(RepeatRow {
        table: row.row.table.clone(),
        label: row.row.label.clone(),
        other_table: other.row.table.clone(),
        other_label: other.row.label.clone(),
        tasks: equal.join(" "),
        equal: equal.len() as u64,
        common: common.len() as u64,
        word: if differing.is_empty() { SAME_SETTING } else { OTHER_SETTING }.into(),
        differing: differing.join("; "),
    })
}

/// Whether two cells show the same digits, as far as both go: one table may print one number of a task, another two.
fn same_digits(own: &[&Cell], others: &[&Cell]) -> bool {
    own.iter().zip(others).all(|(own, other)| own.value == other.value)
}

/// Settings that both rows state, and otherwise.
fn differing(row: &SettingRow, other: &SettingRow) -> Vec<String> {
    let unlike = |name: &str, own: &str, theirs: &str| {
        let is_stated = !own.is_empty() && !theirs.is_empty();
        (is_stated && plain(own) != plain(theirs)).then(|| format!("{name} {own} instead of {theirs}"))
    };
    let found = [
        unlike("backbone", &row.assumed.backbone, &other.assumed.backbone),
        unlike("method", method(row.row), method(other.row)),
        unlike("split", split(row.assumed), split(other.assumed)),
    ];
    found.into_iter().flatten().collect()
}

/// A registered method; empty for a name that is none, as that may be the same method under another name.
fn method(row: &PrintedRow) -> &'static str {
    let own = METHODS.iter().find(|method| plain(method.name) == plain(&row.method));
    own.map_or("", |method| method.name)
}

/// A split that is more than the default.
fn split(assumed: &Assumed) -> &'static str {
    if assumed.split_from == Origin::Default { "" } else { assumed.split.name() }
}

/// A name without its owner, case and punctuation: `microsoft/deberta-v3-base` is `DeBERTaV3-base`.
fn plain(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::audit::assumed::{Given, Settings};
    use crate::analysis::audit::read::parse;

    fn found(text: &str) -> Vec<RepeatRow> {
        let rows = parse("mine.csv", text).unwrap();
        let settings = Settings::load().unwrap();
        let assumed: Vec<Assumed> = rows.iter().map(|row| settings.assumed(row, Given::default())).collect();
        let own: Vec<SettingRow> =
            rows.iter().zip(&assumed).map(|(row, assumed)| SettingRow { row, assumed }).collect();
        repeats(&own, &[])
    }

    #[test]
    fn three_equal_tasks_are_a_repetition_and_two_are_not() {
        let two = "label,rte,mrpc,cola\na,85.20,89.95,69.82\nb,85.20,89.95,69.83\n";
        assert_eq!(found(two), []);
        let three = found("label,rte,mrpc,cola,sst2\na,85.20,89.95,69.82,\nb,85.20,89.95,69.82,95.1\n");
        assert_eq!((three[0].label.as_str(), three[0].other_label.as_str()), ("b", "a"));
        assert_eq!((three[0].tasks.as_str(), three[0].common), ("rte mrpc cola", 3));
        assert_eq!(three[0].word, SAME_SETTING);
        assert_eq!(found(&two.replace("69.83", "69.820")), [], "other digits");
    }

    #[test]
    fn every_setting_that_both_rows_state_is_compared() {
        let rows = |columns: &str, a: &str, b: &str| {
            found(&format!("label,rte,mrpc,cola,{columns}\na,85.20,89.95,69.82,{a}\nb,85.20,89.95,69.82,{b}\n"))
                .remove(0)
        };
        let backbone = rows("backbone", "DeBERTaV3-base", "RoBERTa-large");
        assert_eq!(backbone.differing, "backbone RoBERTa-large instead of DeBERTaV3-base");
        assert_eq!(backbone.word, OTHER_SETTING);
        assert_eq!(rows("backbone", "DeBERTaV3-base", "microsoft/deberta-v3-base").word, SAME_SETTING);
        assert_eq!(rows("backbone", "DeBERTaV3-base", "").word, SAME_SETTING);
        assert_eq!(rows("method", "LoRA", "adalora").differing, "method adalora instead of lora");
        assert_eq!(rows("method", "lora", "LoRA r8").word, SAME_SETTING);
        assert_eq!(rows("split", "sora", "official").differing, "split official instead of sora");
        assert_eq!(rows("split", "sora", "").word, SAME_SETTING);
    }

    #[test]
    fn a_cell_of_one_number_is_compared_with_the_first_of_two() {
        let row = found("label,mnli,qqp,rte\na,90.65/90.69,91.99/89.38,85.20\nb,90.65,91.99/89.38,85.20\n").remove(0);
        assert_eq!(row.equal, 3);
        assert_eq!(found("label,mnli,qqp,rte\na,90.65,91.99/89.38,85.20\nb,90.65,91.99/89.39,85.20\n"), []);
    }
}
