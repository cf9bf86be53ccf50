//! Each flipped switch against the base row of its method, paired by seed: score, values left, time.

use crate::analysis::frame::rows::RunRow;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::paired::{PairedRow, compare_seeds};
use crate::analysis::results::GroupResults;
use crate::analysis::stats::{holm, mean};
use crate::analysis::summary::MethodRow;
use crate::plan::flips;

frame_rows! {
    /// One flip of one method on one task, or over all tasks.
    pub struct AblationRow {
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Split policy.
        split: String,
        /// Method.
        method: String,
        /// Line of docs/divergences.md.
        divergence: String,
        /// Switch and its flipped value.
        flip: String,
        /// Task, or `all`.
        task: String,
        /// Seeds both finished.
        pairs: u64,
        /// Mean difference of the score in points of 100, flipped less base.
        difference: Option<f64>,
        /// Its sample standard deviation over seeds.
        std: Option<f64>,
        /// Lower end of the 95 % t interval over seeds.
        interval_low: Option<f64>,
        /// Upper end.
        interval_high: Option<f64>,
        /// Two-sided p of the paired t test over seeds.
        p_t: Option<f64>,
        /// The same, Holm-corrected over the flips of the method on this task.
        p_holm: Option<f64>,
        /// Two-sided p of the sign-flip test over seeds.
        p_sign_flip: Option<f64>,
        /// Values left of the base, mean over the pairs' seeds.
        effective_base: Option<f64>,
        /// Values left of the flipped row.
        effective: Option<f64>,
        /// Seconds of an epoch, flipped by base.
        time_ratio: Option<f64>,
    }
}

/// Rows of every flip in a group; a method without a base row has none.
pub fn ablation(group: &GroupResults) -> Vec<AblationRow> {
    let mut rows: Vec<AblationRow> = Vec::new();
    for row in &group.methods {
        let Some(flip) = flips::of_label(&row.label) else { continue };
        let base = group.methods.iter().find(|base| base.method == row.method && base.label.is_empty());
        if let Some(base) = base {
            let compared = compare_seeds(&group.group, &(row, base), &group.columns);
            rows.extend(compared.iter().map(|paired| ablation_row(flip.id, row, base, paired)));
        }
    }
    correct(&mut rows);
    rows
}

fn ablation_row(divergence: &str, row: &MethodRow, base: &MethodRow, paired: &PairedRow) -> AblationRow {
    let is_meant = |task: &str| paired.task == "all" || task == paired.task;
    let average = |of: &MethodRow, value: fn(&RunRow) -> Option<f64>| {
        let cells = of.cells.iter().filter(|(task, _)| is_meant(task)).map(|(_, cell)| cell);
        mean(&cells.flat_map(|cell| &cell.scores).filter_map(|score| value(&score.run.row)).collect::<Vec<_>>())
    };
    let effective = |of: &MethodRow| average(of, |run| run.effective.map(|n| n as f64));
    let seconds = |of: &MethodRow| average(of, |run| run.epoch_seconds);
    AblationRow {
        data_source: paired.data_source.clone(),
        backbone: paired.backbone.clone(),
        split: paired.split.clone(),
        method: row.method.clone(),
        divergence: divergence.into(),
        flip: row.label.split_once(' ').map_or(row.label.clone(), |(_, flip)| flip.to_string()),
        task: paired.task.clone(),
        pairs: paired.pairs,
        difference: paired.difference,
        std: paired.std,
        interval_low: paired.interval_low,
        interval_high: paired.interval_high,
        p_t: paired.p_t,
        p_holm: None,
        p_sign_flip: paired.p_sign_flip,
        effective_base: effective(base),
        effective: effective(row),
        time_ratio: seconds(row).zip(seconds(base)).map(|(own, base)| own / base),
    }
}

/// Holm's correction over the flips of each method and task.
fn correct(rows: &mut [AblationRow]) {
    let mut families: Vec<(String, String)> = rows.iter().map(|row| (row.method.clone(), row.task.clone())).collect();
    families.sort();
    families.dedup();
    for (method, task) in families {
        let is_of = |row: &&mut AblationRow| row.method == method && row.task == task && row.p_t.is_some();
        let mut members: Vec<&mut AblationRow> = rows.iter_mut().filter(is_of).collect();
        let corrected = holm(&members.iter().filter_map(|row| row.p_t).collect::<Vec<_>>());
        members.iter_mut().zip(corrected).for_each(|(row, p)| row.p_holm = Some(p));
    }
}
