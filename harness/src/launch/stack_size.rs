//! Number of runs that share their steps: as a flag says, or as measured step times and memory do.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::env::{memory, panics};
use crate::error::{Error, Result};
use crate::launch::estimate::stack_cost;
use crate::load::backbone::Backbone;
use crate::load::task_data::TokenizedTask;
use crate::plan::spec::RunSpec;

/// A larger stack must take at least so much less time.
const GAIN: f64 = 0.05;
/// Share of the free memory that a stack may be expected to take.
const ROOM: f64 = 0.8;

/// Most runs that share their steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackSize {
    /// So many.
    Runs(NonZeroUsize),
    /// As many as take the least time for each run, and fit.
    Auto,
}

impl StackSize {
    /// Every run alone.
    pub const ONE: StackSize = StackSize::Runs(NonZeroUsize::MIN);
}

impl FromStr for StackSize {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(StackSize::Auto),
            number => number.parse().map(StackSize::Runs).map_err(|_| "expected a number from 1 on, or auto".into()),
        }
    }
}

/// A stack that was timed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Timed {
    runs: usize,
    /// Seconds of a step of all its runs.
    seconds: f64,
    peak_mib: Option<f64>,
}

impl Timed {
    fn seconds_a_run(&self) -> f64 {
        self.seconds / self.runs as f64
    }
}

/// The number of these runs, which could all share their steps, that share them fastest; and a word on what was measured. Stacks of 1, 2,
/// 4, ... runs and of all are timed until a larger one brings a run little or does not fit.
///
/// # Errors
/// A stop signal. A stack that cannot be timed ends the search.
pub fn fastest(
    runs: &[&RunSpec],
    backbone: &Backbone,
    task: &TokenizedTask,
    stop: &AtomicBool,
) -> Result<(usize, String)> {
    let mut timed: Vec<Timed> = Vec::new();
    // The first calls of an operation make much that is no part of a step.
    let _ = cost(&runs[..1], backbone, task);
    for size in sizes(runs.len()) {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted);
        }
        if !timed.is_empty() && expected_mib(&timed, size) > room_mib(backbone) {
            break;
        }
        // Neighbours, as they are trained.
        let first = (runs.len() - size) / 2;
        match cost(&runs[first..first + size], backbone, task) {
            Ok((seconds, peak_mib)) => timed.push(Timed { runs: size, seconds, peak_mib }),
            Err(error) => {
                let error = error.to_string();
                let word = format!("{}; {size} side by side cannot be timed: {error}", word(&timed));
                return Ok((best(&timed, runs.len()), word));
            }
        }
        if !gains(&timed) {
            break;
        }
    }
    torch_ext::device::release_memory(backbone.device)?;
    Ok((best(&timed, runs.len()), word(&timed)))
}

/// [`stack_cost`], whose panics are errors: most of libtorch's operations panic.
fn cost(runs: &[&RunSpec], backbone: &Backbone, task: &TokenizedTask) -> Result<(f64, Option<f64>)> {
    panics::guarded(|| stack_cost(runs, backbone, task))
}

/// 1, 2, 4, ... and all of them.
fn sizes(most: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(1), |size| Some(size * 2)).take_while(move |size| *size < most).chain([most])
}

/// Memory expected of a stack: on the line through the last two that were timed; in proportion after the first.
fn expected_mib(timed: &[Timed], size: usize) -> f64 {
    let peak = |timed: &Timed| timed.peak_mib.unwrap_or(0.0);
    match timed {
        [] => 0.0,
        [one] => peak(one) * size as f64 / one.runs as f64,
        [.., before, last] => {
            let a_run = (peak(last) - peak(before)) / (last.runs - before.runs) as f64;
            peak(last) + a_run * (size - last.runs) as f64
        }
    }
}

/// Memory that this process may come to, in MiB. Not known of a GPU: there a step says that memory has run out.
fn room_mib(backbone: &Backbone) -> f64 {
    match memory::free_mib().zip(memory::resident_mib()) {
        Some((free, resident)) if !backbone.device.is_cuda() => ROOM * free + resident,
        _ => f64::INFINITY,
    }
}

/// Seconds of a step of `count` runs in stacks of a size. Those left over take a run's time in the largest stack that is no larger
/// than they are.
fn seconds_of_all(timed: &[Timed], size: &Timed, count: usize) -> f64 {
    let rest = count % size.runs;
    let of_rest = timed.iter().rev().find(|timed| timed.runs <= rest).map_or(0.0, Timed::seconds_a_run);
    (count / size.runs) as f64 * size.seconds + rest as f64 * of_rest
}

/// Whether a run of the last size takes notably less time than one of the size before. Runs left over do not count here: the next
/// size may leave none.
fn gains(timed: &[Timed]) -> bool {
    match timed {
        [.., before, last] => last.seconds_a_run() < (1.0 - GAIN) * before.seconds_a_run(),
        _ => true,
    }
}

/// Runs of the smallest stack that takes little more than the least time for all.
fn best(timed: &[Timed], count: usize) -> usize {
    let seconds = |size: &Timed| seconds_of_all(timed, size, count);
    let least = timed.iter().map(seconds).fold(f64::INFINITY, f64::min);
    timed.iter().find(|size| (1.0 - GAIN) * seconds(size) <= least).map_or(1, |size| size.runs)
}

/// `12.1, 7.0, 4.3 ms a run and step with 1, 2, 4 runs`.
fn word(timed: &[Timed]) -> String {
    if timed.is_empty() {
        return "nothing was timed".into();
    }
    let list = |text: &dyn Fn(&Timed) -> String| timed.iter().map(text).collect::<Vec<_>>().join(", ");
    let times = list(&|timed| format!("{:.1}", 1000.0 * timed.seconds_a_run()));
    format!("{times} ms a run and step with {} runs", list(&|timed| timed.runs.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(costs: &[(usize, f64, f64)]) -> Vec<Timed> {
        costs.iter().map(|&(runs, seconds, peak)| Timed { runs, seconds, peak_mib: Some(peak) }).collect()
    }

    #[test]
    fn sizes_double_up_to_all() {
        let of = |most| sizes(most).collect::<Vec<_>>();
        assert_eq!([of(1), of(2), of(5), of(8)], [vec![1], vec![1, 2], vec![1, 2, 4, 5], vec![1, 2, 4, 8]]);
    }

    #[test]
    fn the_smallest_stack_that_takes_little_more_than_the_least_time_is_taken() {
        let costs = [(1, 1.0, 0.0), (2, 1.2, 0.0), (4, 2.0, 0.0), (8, 3.9, 0.0)];
        assert_eq!([1, 2, 3, 4].map(|count| best(&timed(&costs[..count]), 16)), [1, 2, 4, 4]);
        assert_eq!(word(&timed(&costs[..2])), "1000.0, 600.0 ms a run and step with 1, 2 runs");
    }

    #[test]
    fn runs_that_a_stack_leaves_over_count() {
        // Nine in one stack take no less time each than eight, but the ninth would be alone.
        let costs = [(1, 1.2, 0.0), (2, 1.6, 0.0), (4, 2.4, 0.0), (8, 4.0, 0.0), (9, 4.5, 0.0)];
        assert_eq!(best(&timed(&costs), 9), 9);
        assert_eq!(best(&timed(&costs), 16), 8);
    }

    #[test]
    fn all_runs_are_timed_where_eight_of_nine_gain_only_each() {
        // With the ninth run alone, stacks of eight take hardly less time for all than stacks of four.
        let costs = [(1, 1.7, 0.0), (2, 2.2, 0.0), (4, 3.6, 0.0), (8, 6.8, 0.0), (9, 7.4, 0.0)];
        assert!((1..=4).all(|count| gains(&timed(&costs[..count]))));
        assert_eq!(best(&timed(&costs), 9), 9);
        assert!(!gains(&timed(&[(1, 1.0, 0.0), (2, 1.95, 0.0)])));
    }

    #[test]
    fn memory_is_expected_to_grow_as_it_did() {
        let costs = timed(&[(1, 1.0, 100.0), (2, 1.0, 130.0)]);
        assert_eq!((expected_mib(&costs[..1], 2), expected_mib(&costs, 4)), (200.0, 190.0));
    }

    #[test]
    fn a_size_is_a_number_or_auto() {
        assert_eq!("auto".parse(), Ok(StackSize::Auto));
        assert_eq!("1".parse(), Ok(StackSize::ONE));
        assert!(["0", "-1", "many", ""].iter().all(|text| text.parse::<StackSize>().is_err()));
    }
}
