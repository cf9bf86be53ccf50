//! Values that a mean of accuracies can print (GRIM: granularity-related inconsistency of means, Brown and Heathers 2017).
//!
//! An accuracy on n examples is a count over n, and a mean over k runs is a count over k n. With k n below 10^(d+2) such means do not
//! reach every value of d decimals (in points of 100).

use crate::analysis::audit::decimal::Decimal;

/// Most runs that [`fewest_runs`] tries.
pub const MOST_RUNS: usize = 10;

/// Means of `runs` accuracies over `rows` examples each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lattice {
    /// Runs, k.
    pub runs: usize,
    /// Examples of each run, n.
    pub rows: usize,
}

impl Lattice {
    fn counts(self) -> i128 {
        self.runs as i128 * self.rows as i128
    }

    /// Whether some value with these decimals is no mean: the step 100 / (k n) is larger than the last digit.
    pub fn is_testable(self, decimals: u32) -> bool {
        self.counts() < 100 * 10i128.pow(decimals)
    }

    /// Whether a count c exists for which 100 c / (k n) is printed as `value`. A tie counts either way: half up and half to even both
    /// print it, and a tie in a double may be printed as either.
    pub fn can_print(self, value: Decimal) -> bool {
        let (counts, units, parts) = (self.counts(), i128::from(value.units), 200 * i128::from(value.scale()));
        // 100 c / (k n) within half a unit of units / scale.
        let least = ((2 * units - 1) * counts).max(0);
        let first = (least + parts - 1) / parts;
        let last = ((2 * units + 1) * counts).div_euclid(parts).min(counts);
        first <= last
    }

    /// The printed means just below and above `value`; at 0 and 100 the same one twice.
    pub fn neighbours(self, value: Decimal) -> [Decimal; 2] {
        let (counts, scale) = (self.counts(), i128::from(value.scale()));
        let below = (i128::from(value.units) * counts).div_euclid(100 * scale);
        let printed = |count: i128| {
            let (count, half) = (count.clamp(0, counts), counts / 2);
            Decimal { units: ((100 * scale * count + half) / counts) as i64, decimals: value.decimals }
        };
        [printed(below), printed(below + 1)]
    }
}

/// The fewest runs, up to [`MOST_RUNS`], whose mean over `rows` examples prints `value`; `None` where none does or any value is printed.
pub fn fewest_runs(value: Decimal, rows: usize) -> Option<usize> {
    let lattices = (1..=MOST_RUNS).map(|runs| Lattice { runs, rows });
    let mut testable = lattices.take_while(|lattice| lattice.is_testable(value.decimals));
    testable.find(|lattice| lattice.can_print(value)).map(|lattice| lattice.runs)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    /// The findings of docs/spec.md §5.1.
    #[test]
    fn the_known_values_of_the_sora_table() {
        let fits = |text: &str, runs, rows| Lattice { runs, rows }.can_print(decimal(text));
        assert!(fits("85.32", 5, 139) && fits("86.04", 5, 139));
        assert!((1..=5).all(|runs| !fits("87.36", runs, 139) && !fits("87.36", runs, 138)));
        assert!(fits("87.36", 1, 277));
        assert!(!fits("82.49", 5, 139) && fits("82.49", 3, 139) && fits("82.49", 2, 277));
        assert!(fits("95.57", 5, 872) && !fits("95.95", 5, 872) && fits("95.95", 3, 872));
        assert!((1..=5).all(|runs| !fits("90.22", runs, 204) && !fits("90.22", runs, 408)));
    }

    /// Every count of a lattice, rounded half up and half to even, against the closed form.
    #[test]
    fn the_closed_form_is_the_list_of_all_counts() {
        for (runs, rows, decimals) in [(1, 8, 1), (1, 7, 0), (2, 8, 2), (3, 16, 1), (5, 20, 1)] {
            let (lattice, scale) = (Lattice { runs, rows }, 10i64.pow(decimals));
            let counts = (runs * rows) as i64;
            let mut printed = BTreeSet::new();
            for count in 0..=counts {
                let (whole, rest) = ((100 * scale * count) / counts, (100 * scale * count) % counts);
                printed.insert(whole + i64::from(2 * rest > counts));
                if 2 * rest == counts {
                    printed.extend([whole + 1, whole + whole % 2]);
                }
            }
            // A tie also counts downwards: an even number below it is printed by half to even, an odd one by a double just below.
            for units in 0..=100 * scale {
                let is_tie = (0..=counts).any(|count| 2 * 100 * scale * count == (2 * units + 1) * counts);
                let expected = printed.contains(&units) || is_tie;
                assert_eq!(lattice.can_print(Decimal { units, decimals }), expected, "{units} of {runs} x {rows}");
            }
        }
    }

    #[test]
    fn a_fine_lattice_prints_everything_and_is_not_testable() {
        assert!(Lattice { runs: 5, rows: 872 }.is_testable(2) && !Lattice { runs: 5, rows: 872 }.is_testable(1));
        let fine = Lattice { runs: 2, rows: 5463 };
        assert!(!fine.is_testable(2));
        assert!((0..=10_000).all(|units| fine.can_print(Decimal { units, decimals: 2 })));
        assert!(!Lattice { runs: 1, rows: 9 }.can_print(decimal("100.1")));
    }

    #[test]
    fn neighbours_and_the_fewest_runs() {
        let lattice = Lattice { runs: 5, rows: 139 };
        assert_eq!(lattice.neighbours(decimal("87.36")).map(|n| n.to_string()), ["87.34", "87.48"]);
        assert_eq!(lattice.neighbours(decimal("100.00")).map(|n| n.to_string()), ["100.00", "100.00"]);
        assert_eq!(fewest_runs(decimal("87.36"), 277), Some(1));
        assert_eq!(fewest_runs(decimal("95.95"), 872), Some(3));
        assert_eq!(fewest_runs(decimal("90.22"), 204).filter(|runs| *runs <= 5), None);
        assert_eq!(fewest_runs(decimal("90.27"), 9815), Some(1));
        assert_eq!(fewest_runs(decimal("80.27"), 9815), None, "two runs would print anything, one does not");
    }
}
