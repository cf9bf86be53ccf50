//! A step in parts: the same effective batch where the device cannot hold all of it at once (ADR 0025).

use std::ops::Range;

use crate::env::micro_batch::MicroBatch;

/// Sizes of the parts that steps are taken in.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// Most rows of a run in a part; none: all of a batch.
    rows: Option<usize>,
    /// Whether parts get smaller where memory runs out.
    may_shrink: bool,
}

impl Parts {
    /// As `--micro-batch` asks; `known` is the size at which an earlier start of the same run had arrived.
    pub fn new(asked: Option<MicroBatch>, known: Option<usize>) -> Self {
        match asked {
            None => Parts { rows: None, may_shrink: false },
            Some(MicroBatch::Rows(rows)) => Parts { rows: Some(rows.get()), may_shrink: false },
            Some(MicroBatch::Auto) => Parts { rows: known, may_shrink: true },
        }
    }

    /// Most rows of a run in a part; none: all of a batch.
    pub fn rows(&self) -> Option<usize> {
        self.rows
    }

    /// Whether parts get smaller where memory runs out.
    pub fn may_shrink(&self) -> bool {
        self.may_shrink
    }

    /// Rows of each part of a batch, of which each run has so many.
    pub fn ranges(&self, rows: usize) -> Vec<Range<usize>> {
        let most = self.rows.unwrap_or(rows).max(1);
        (0..rows).step_by(most).map(|first| first..rows.min(first + most)).collect()
    }

    /// Halves the parts of a batch of so many rows; false where that may not be, or they are of one row.
    pub fn shrink(&mut self, rows: usize) -> bool {
        let now = self.rows.unwrap_or(rows).min(rows);
        let shrinks = self.may_shrink && now > 1;
        if shrinks {
            self.rows = Some(now.div_ceil(2));
        }
        shrinks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(asked: &str, known: Option<usize>) -> Parts {
        Parts::new(Some(asked.parse().unwrap()), known)
    }

    #[test]
    fn parts_cover_the_rows_once() {
        assert!(Parts::new(None, Some(3)).ranges(8).into_iter().eq(std::iter::once(0..8)));
        assert_eq!(parts("3", Some(2)).ranges(8), [0..3, 3..6, 6..8]);
        assert!(parts("8", None).ranges(8).into_iter().eq(std::iter::once(0..8)));
        assert!(parts("100", None).ranges(8).into_iter().eq(std::iter::once(0..8)));
        assert!(parts("auto", None).ranges(8).into_iter().eq(std::iter::once(0..8)));
        assert_eq!(parts("auto", Some(4)).ranges(6), [0..4, 4..6], "as the start before");
    }

    #[test]
    fn parts_shrink_to_one_row_where_they_may() {
        let mut shrinking = parts("auto", None);
        let mut seen = Vec::new();
        while shrinking.shrink(13) {
            seen.push(shrinking.rows().unwrap());
        }
        assert_eq!(seen, [7, 4, 2, 1]);
        assert!(!parts("4", None).shrink(13) && !Parts::new(None, None).shrink(13));
        // The short last batch of an epoch.
        let mut short = parts("auto", Some(8));
        assert!(short.shrink(3));
        assert_eq!(short.rows(), Some(2));
    }

    #[test]
    fn only_auto_and_numbers_of_rows_are_sizes() {
        for wrong in ["0", "-1", "half", ""] {
            assert!(wrong.parse::<MicroBatch>().unwrap_err().contains("auto"), "{wrong}");
        }
    }
}
