//! Each method against LoRA on the same tasks and seeds.

use super::columns::{TaskColumn, task_columns};
use super::summary::{MethodRow, summarise};
use super::{GridRow, Needs, Rendered, Table, method_title};
use crate::error::Result;
use crate::frame::Collected;
use crate::frame::label::Protocol;
use crate::frame::typed::frame_rows;
use crate::stats::{holm, mean, paired_t, sample_std, sign_flip};

/// The method the others are compared with.
const REFERENCE: &str = "lora";
/// Fewest pairs a test is made with.
const FEWEST: usize = 3;

/// Paired comparison with LoRA.
pub struct Paired;

frame_rows! {
    /// One method on one task against LoRA, in points of 100.
    pub struct Line {
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Split policy.
        split: String,
        /// Method, with its setting where there are several.
        method: String,
        /// Task.
        task: String,
        /// Seeds both finished.
        pairs: u64,
        /// Mean difference, method - LoRA.
        difference: f64,
        /// Its sample standard deviation.
        std: Option<f64>,
        /// Two-sided p of the paired t test.
        p_t: Option<f64>,
        /// The same, Holm-corrected over the table.
        p_holm: Option<f64>,
        /// Two-sided p of the sign-flip permutation test.
        p_sign_flip: Option<f64>,
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
        let (Some(first), Some(reference)) = (results.first(), rows.iter().find(|row| row.method == REFERENCE)) else {
            return Ok(None);
        };
        let protocol = Protocol::of(first);
        let others = rows.iter().filter(|row| row.method != REFERENCE);
        let mut lines: Vec<Line> =
            others.flat_map(|row| columns.iter().filter_map(|c| line(&protocol, reference, row, c))).collect();
        if lines.is_empty() {
            return Ok(None);
        }
        correct(&mut lines);
        Ok(Some(Rendered {
            title: format!("{}: {}", self.title(), protocol.title()),
            header: header(),
            rows: lines.iter().map(|line| grid_row(line, &columns)).collect(),
            notes: notes(&lines, reference),
            data: crate::frame::frame(&lines)?,
        }))
    }
}

fn header() -> Vec<String> {
    ["Method", "Task", "Pairs", "Difference", "p (paired t)", "p (Holm)", "p (sign flip)"].map(str::to_string).to_vec()
}

fn line(protocol: &Protocol, reference: &MethodRow, row: &MethodRow, column: &TaskColumn) -> Option<Line> {
    let (ours, theirs) = (row.cells.get(&column.name)?, reference.cells.get(&column.name)?);
    let differences: Vec<f64> = ours
        .scores
        .iter()
        .filter_map(|s| Some(s.score() - theirs.scores.iter().find(|r| r.seed == s.seed)?.score()))
        .collect();
    let tested = differences.len() >= FEWEST;
    Some(Line {
        data_source: protocol.data_source.clone(),
        backbone: protocol.backbone.clone(),
        split: protocol.split.clone(),
        method: row.title.clone(),
        task: column.name.clone(),
        pairs: differences.len() as u64,
        difference: mean(&differences)?,
        std: sample_std(&differences),
        p_t: if tested { paired_t(&differences).map(|test| test.p) } else { None },
        p_holm: None,
        p_sign_flip: if tested { sign_flip(&differences, 0) } else { None },
    })
}

fn correct(lines: &mut [Line]) {
    let p_values: Vec<f64> = lines.iter().filter_map(|line| line.p_t).collect();
    let mut corrected = holm(&p_values).into_iter();
    for line in lines.iter_mut().filter(|line| line.p_t.is_some()) {
        line.p_holm = corrected.next();
    }
}

fn grid_row(line: &Line, columns: &[TaskColumn]) -> GridRow {
    let task = columns.iter().find(|c| c.name == line.task).map_or(line.task.clone(), |c| c.title.clone());
    let std = line.std.map_or(String::new(), |s| format!(" ± {s:.2}"));
    let p = |value: Option<f64>| value.map_or("–".to_string(), |p| format!("{p:.3}"));
    let mut cells = vec![line.method.clone(), task, line.pairs.to_string(), format!("{:+.2}{std}", line.difference)];
    if line.pairs < FEWEST as u64 {
        cells.extend(["no test possible", "–", "–"].map(str::to_string));
    } else {
        cells.extend([p(line.p_t), p(line.p_holm), p(line.p_sign_flip)]);
    }
    GridRow { cells, sub: false }
}

fn notes(lines: &[Line], reference: &MethodRow) -> Vec<String> {
    let largest = lines.iter().map(|line| line.pairs).max().unwrap_or(0);
    let mut notes = vec![format!(
        "Difference of the task's score in points of 100, method - {} on the same seed: mean ± sample standard deviation \
         over seeds (not over examples).",
        if reference.variant.is_empty() { method_title(REFERENCE) } else { reference.title.clone() }
    )];
    if largest < FEWEST as u64 {
        notes.push(format!("At most {largest} seeds are paired: with fewer than {FEWEST} no test is possible."));
    } else {
        notes.push(format!(
            "p (Holm) corrects the paired t test over the rows tested here. The sign-flip test cannot go below 2/2^n: \
             {:.3} for n = {largest}. A dash: differences without spread have no t test.",
            2.0 / 2f64.powi(largest.min(60) as i32)
        ));
    }
    notes
}
