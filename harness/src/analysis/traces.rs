//! Steps and gates are read for a bounded number of runs, whatever a store holds.

use std::path::Path;

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::analysis::frame::traces::RunTraces;
use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::error::Error;
use crate::store::read;

/// Most runs of one method row and task whose steps are shown, the first seeds.
pub const MOST_SEEDS: usize = 10;
/// Most runs of a report whose steps are shown; at least one of every method row and task.
const MOST_RUNS: usize = 1_000;

/// Reads the traces that figures show into the groups of a frame; `runs` holds the runs' directories. Gives the runs whose files
/// cannot be read.
pub fn read(frame: &mut ResultsFrame, runs: &Path) -> Vec<(String, Error)> {
    let cells: usize = frame.groups.iter().flat_map(|group| &group.methods).map(|row| row.cells.len()).sum();
    let most = (MOST_RUNS / cells.max(1)).clamp(1, MOST_SEEDS);
    let mut failed = Vec::new();
    for group in &mut frame.groups {
        let read = |run: String| (run.clone(), read::traces(&runs.join(run)));
        let traces: Vec<_> = shown(group, most).into_par_iter().map(read).collect();
        for (run, traces) in traces {
            match traces {
                Ok(stored) => drop(group.traces.insert(run, RunTraces::of(&stored))),
                Err(error) => failed.push((run, error)),
            }
        }
    }
    failed
}

/// Finished runs of every method row and task, the first `most` seeds.
fn shown(group: &GroupResults, most: usize) -> Vec<String> {
    let cells = group.methods.iter().flat_map(|row| row.cells.values());
    cells.flat_map(|cell| cell.scores.iter().take(most)).map(|score| score.run.row.run.clone()).collect()
}
