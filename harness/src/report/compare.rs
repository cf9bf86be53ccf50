//! Two stores or reports against each other, as tables for a terminal.

use crate::analysis::differing::DifferingField;
use crate::analysis::frame::typed::Frame;
use crate::analysis::store_comparison::{AloneRow, MovedRow, StoreComparison};
use crate::error::Result;
use crate::report::table::TableDoc;
use crate::report::tables::cells::{ABSENT, count_or_absent, fixed};

/// Scores, settings that differ, and runs without a partner; the last two where there are any. `a` and `b` name the sides.
///
/// # Errors
/// A bug only.
pub fn documents(compared: &StoreComparison, a: &str, b: &str) -> Result<Vec<TableDoc>> {
    let mut docs = vec![moved(compared, a, b)?];
    if !compared.differing.is_empty() {
        docs.push(differing(compared)?);
    }
    if !compared.alone.is_empty() {
        docs.push(alone(compared)?);
    }
    Ok(docs)
}

fn heads(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn moved(compared: &StoreComparison, a: &str, b: &str) -> Result<TableDoc> {
    let rows = &compared.moved;
    let mut notes = vec![
        format!("A: {a}. B: {b}. {} runs finished in both, matched by row of the recipe, task and seed.", compared.pairs),
        "Scores in points of 100; B − A: mean ± sample standard deviation over seeds. Identical: every seed scores the same. Moved: p below \
         0.05 in a paired t test over seeds, Holm-corrected over the tasks of a row. Detectable: the least difference that these \
         seeds show with a power of 80 %; a smaller one may be there unseen."
            .into(),
    ];
    if compared.differing.is_empty() {
        notes.push("No setting and no origin differs.".into());
    }
    notes.extend(of_reports(compared));
    Ok(TableDoc {
        title: "What moved from A to B".into(),
        header: heads(&["Row", "Task", "Seeds", "A", "B", "B − A", "p", "Detectable", "Values left", "Time", "Word"]),
        rows: rows.iter().map(moved_row).collect(),
        notes,
        data: Frame::from_rows(rows)?.into_data(),
    })
}

/// Word on settings that a report does not have.
fn of_reports(compared: &StoreComparison) -> Option<String> {
    let sides = match compared.reports.as_slice() {
        [] => return None,
        [one] => format!("{one} is a report"),
        _ => "A and B are reports".into(),
    };
    let names = match compared.not_compared.as_slice() {
        [] => "weight decay, warm-up, schedule and others".into(),
        names => names.join(", "),
    };
    Some(format!(
        "{sides}: settings that are not in results.csv were not compared ({names}). Name the directories of both sweeps to compare \
         every setting."
    ))
}

fn moved_row(row: &MovedRow) -> Vec<String> {
    let std = row.std.map_or(String::new(), |std| format!(" ± {std:.2}"));
    let [before, after] = [row.effective_before, row.effective_after];
    let values = if before == after {
        count_or_absent(before)
    } else {
        format!("{} → {}", count_or_absent(before), count_or_absent(after))
    };
    vec![
        row.title.clone(),
        title(&row.task),
        row.pairs.to_string(),
        fixed(row.before, 2),
        fixed(row.after, 2),
        row.difference.map_or(ABSENT.into(), |difference| format!("{difference:+.2}{std}")),
        fixed(row.p, 3),
        fixed(row.detectable, 2),
        values,
        row.time_ratio.map_or(ABSENT.into(), |ratio| format!("×{ratio:.2}")),
        row.word.clone(),
    ]
}

/// Title of a task.
fn title(task: &str) -> String {
    match datasets::tasks::find(task) {
        Ok(known) => known.title.into(),
        Err(_) if task == "all" => "all tasks".into(),
        Err(_) => task.into(),
    }
}

fn differing(compared: &StoreComparison) -> Result<TableDoc> {
    let row =
        |row: &DifferingField| vec![row.field.clone(), row.before.clone(), row.after.clone(), row.pairs.to_string()];
    Ok(TableDoc {
        title: "Settings and origins that differ".into(),
        header: heads(&["Field", "A", "B", "Pairs of runs"]),
        rows: compared.differing.iter().map(row).collect(),
        notes: Vec::new(),
        data: Frame::from_rows(&compared.differing)?.into_data(),
    })
}

fn alone(compared: &StoreComparison) -> Result<TableDoc> {
    let row = |row: &AloneRow| vec![row.run.clone(), row.side.clone(), row.status.clone(), row.partner.clone()];
    Ok(TableDoc {
        title: "Runs that are not compared".into(),
        header: heads(&["Run", "In", "State", "Partner"]),
        rows: compared.alone.iter().map(row).collect(),
        notes: Vec::new(),
        data: Frame::from_rows(&compared.alone)?.into_data(),
    })
}
