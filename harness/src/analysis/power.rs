//! Power of the seeds of stored runs: the least difference between two methods, and the seeds that a margin takes.

use serde::Serialize;

use crate::analysis::columns::TaskColumn;
use crate::analysis::frame::typed::frame_rows;
use crate::analysis::paired::{EQUAL, Pair, PairedRow, compare_seeds, reference_pairs};
use crate::analysis::results::GroupResults;
use crate::analysis::summary::MethodRow;
use crate::analysis::verdict::{cell_margin, detectable, fewest_seeds, half_width};

frame_rows! {
    /// One pair of method rows on one task, or over all tasks; in points of 100.
    #[derive(Serialize)]
    pub struct PowerRow {
        /// Data source.
        data_source: String,
        /// Backbone.
        backbone: String,
        /// Split policy.
        split: String,
        /// Name of method and variant in tables.
        title: String,
        /// The row it is compared with.
        reference: String,
        /// Task, or `all`: the mean over the tasks with common seeds.
        task: String,
        /// Seeds both finished, n.
        pairs: u64,
        /// Sample deviation over seeds of the difference on one seed.
        std: Option<f64>,
        /// Least mean difference that n seeds show with a power of 80 % in a paired t test at 5 %.
        detectable: Option<f64>,
        /// Margin.
        margin: f64,
        /// Fewest seeds that show a difference as large as the margin, with a power of 80 %; null above 1,000.
        seeds_to_show: Option<u64>,
        /// Fewest seeds whose 90 % interval fits into the margin around equal means; null above 1,000.
        seeds_to_exclude: Option<u64>,
    }
}

/// Every row against its LoRA row, and the rows of two other methods with one label against each other. `margin` is the least margin in
/// points; on a task it is never below two test examples.
pub fn power(group: &GroupResults, margin: f64) -> Vec<PowerRow> {
    let pairs = pairs(&group.methods);
    pairs.iter().flat_map(|pair| power_rows(group, pair, margin)).collect()
}

fn pairs(methods: &[MethodRow]) -> Vec<Pair<'_>> {
    let mut pairs = reference_pairs(&methods.iter().collect::<Vec<_>>());
    for (index, row) in methods.iter().enumerate() {
        let is_alike = |other: &&MethodRow| other.method != row.method && other.label == row.label;
        for other in methods[..index].iter().filter(is_alike) {
            let is_known = |(a, b): &Pair| {
                let is = |x: &MethodRow, y: &MethodRow| std::ptr::eq(*a, x) && std::ptr::eq(*b, y);
                is(row, other) || is(other, row)
            };
            if !pairs.iter().any(is_known) {
                pairs.push((row, other));
            }
        }
    }
    pairs
}

fn power_rows(group: &GroupResults, pair: &Pair, margin: f64) -> Vec<PowerRow> {
    let compared = compare_seeds(&group.group, pair, &group.columns).into_iter().filter(|row| row.pairs > 0);
    let of_task = |row: PairedRow| {
        let column = group.columns.iter().find(|column| column.name == row.task);
        let margin = column.map_or(margin, |column| cell_margin(margin, examples(pair.0, column)));
        power_row(row, margin)
    };
    compared.map(of_task).collect()
}

/// Test examples behind the first number of a cell.
fn examples(row: &MethodRow, column: &TaskColumn) -> usize {
    let score = row.cells.get(&column.name).and_then(|cell| cell.scores.first());
    score.and_then(|score| score.examples.first()).map_or(0, |examples| *examples as usize)
}

/// Differences without any spread, as of collapsed runs, say nothing about other seeds.
fn power_row(row: PairedRow, margin: f64) -> PowerRow {
    let std = row.std.filter(|std| *std > EQUAL);
    let error = |std: f64, seeds: usize| std / (seeds as f64).sqrt();
    let fewest = |width: fn(f64, usize) -> Option<f64>| {
        fewest_seeds(margin, |seeds| width(error(std?, seeds), seeds)).map(|seeds| seeds as u64)
    };
    let seeds = row.pairs as usize;
    PowerRow {
        data_source: row.data_source,
        backbone: row.backbone,
        split: row.split,
        title: row.title,
        reference: row.reference,
        task: row.task,
        pairs: row.pairs,
        std: row.std,
        detectable: std.and_then(|std| detectable(error(std, seeds), seeds)),
        margin,
        seeds_to_show: fewest(detectable),
        seeds_to_exclude: fewest(half_width),
    }
}
