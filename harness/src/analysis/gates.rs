//! How large gates are at the end of their runs, and how many are exactly zero.

use std::collections::BTreeMap;

use crate::analysis::columns::TaskColumn;
use crate::analysis::results::GroupResults;
use crate::analysis::summary::MethodRow;

/// Bins of a decade.
pub const BINS: i32 = 4;
/// Smallest magnitude with a bin of its own, as a power of ten; what is smaller and not 0 counts there.
const SMALLEST: i32 = -8;

/// Gates of one method row on one task, over its seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct GateHistogram {
    /// Position of the method row in its group.
    pub row: usize,
    /// Heading of the task.
    pub task: String,
    /// Heading of the row.
    pub title: String,
    /// Runs.
    pub runs: usize,
    /// Gates of all of them.
    pub count: usize,
    /// Gates that are exactly 0, in percent of all.
    pub zeros: f64,
    /// The others by their magnitude, in percent of all: [`BINS`] bins a decade, bin 0 begins at 1.
    pub bins: BTreeMap<i32, f64>,
}

/// Histograms of every task and method row that has gates, task by task.
pub fn gate_histograms(group: &GroupResults) -> Vec<GateHistogram> {
    let of_task =
        |column| group.methods.iter().enumerate().filter_map(move |(row, method)| of_cell(group, column, row, method));
    group.columns.iter().flat_map(of_task).collect()
}

fn of_cell(group: &GroupResults, column: &TaskColumn, row: usize, method: &MethodRow) -> Option<GateHistogram> {
    let runs = &method.cells.get(&column.name)?.runs;
    let gates = runs.iter().filter_map(|run| Some(group.traces.get(&run.row.run)?.gates.as_slice()));
    let gates: Vec<&[f32]> = gates.filter(|gates| !gates.is_empty()).collect();
    let count: usize = gates.iter().map(|gates| gates.len()).sum();
    let share = |number: usize| 100.0 * number as f64 / count as f64;
    let mut bins: BTreeMap<i32, usize> = BTreeMap::new();
    for gate in gates.iter().copied().flatten().filter(|gate| **gate != 0.0) {
        *bins.entry(bin(f64::from(gate.abs()))).or_default() += 1;
    }
    let zeros = count - bins.values().sum::<usize>();
    (count > 0).then(|| GateHistogram {
        row,
        task: column.title.clone(),
        title: method.title.clone(),
        runs: gates.len(),
        count,
        zeros: share(zeros),
        bins: bins.into_iter().map(|(bin, number)| (bin, share(number))).collect(),
    })
}

/// Bin of a magnitude above 0.
fn bin(magnitude: f64) -> i32 {
    ((magnitude.log10() * f64::from(BINS)).floor() as i32).max(SMALLEST * BINS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_fall_into_bins_of_equal_ratio() {
        assert_eq!([1.0, 1.7, 1.8, 9.99, 10.0].map(bin), [0, 0, 1, 3, 4]);
        assert_eq!([0.999, 0.1, 1e-30].map(bin), [-1, -4, -32]);
    }
}
