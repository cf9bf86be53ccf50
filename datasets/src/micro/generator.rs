//! A generator of synthetic rows, and drawing a set with it.

use std::collections::HashSet;

use crate::dataset::Example;
use crate::micro::draw::Draw;

/// How one task is made.
pub(super) struct Generator {
    /// Name of the task.
    pub task: &'static str,
    /// Rows of the training set.
    pub train: usize,
    /// Percent of rows a class; a score has its levels.
    pub balance: &'static [usize],
    /// Percent of rows whose class is turned into another, in every set. 0 for a score, which has noise of its own.
    pub noise: usize,
    /// Writes a row for a class.
    pub write: fn(&mut Draw, usize) -> SyntheticRow,
}

/// One generated row.
pub(super) struct SyntheticRow {
    pub first: String,
    pub second: Option<String>,
    pub label: f64,
}

impl SyntheticRow {
    pub fn single(text: String, class: usize) -> Self {
        SyntheticRow { first: text, second: None, label: class as f64 }
    }

    pub fn pair(first: String, second: String, class: usize) -> Self {
        SyntheticRow { first, second: Some(second), label: class as f64 }
    }
}

impl Generator {
    /// Draws a set of so many rows; none of them is in `seen`, which takes them up.
    pub fn set(&self, rows: usize, mut draw: Draw, seen: &mut HashSet<String>) -> Vec<Example> {
        let mut classes = self.classes(rows);
        draw.shuffle(&mut classes);
        let mut examples: Vec<Example> = Vec::with_capacity(rows);
        while let Some(&class) = classes.get(examples.len()) {
            let row = (self.write)(&mut draw, class);
            if seen.insert(format!("{}\t{}", row.first, row.second.as_deref().unwrap_or_default())) {
                examples.push(Example { first: row.first, second: row.second, label: row.label, row: examples.len() });
            }
        }
        self.turn_labels(&mut examples, &mut draw);
        examples
    }

    /// The class of every row, sorted: `balance` percent each, the first class takes what rounding leaves.
    fn classes(&self, rows: usize) -> Vec<usize> {
        let of_class = |(class, percent): (usize, &usize)| vec![class; rows * percent / 100];
        let mut classes: Vec<usize> = self.balance.iter().enumerate().flat_map(of_class).collect();
        classes.resize(rows, 0);
        classes
    }

    fn turn_labels(&self, examples: &mut [Example], draw: &mut Draw) {
        let mut order: Vec<usize> = (0..examples.len()).collect();
        draw.shuffle(&mut order);
        let count = self.balance.len();
        for &position in &order[..examples.len() * self.noise / 100] {
            let class = examples[position].label as usize;
            examples[position].label = ((class + 1 + draw.below(count - 1)) % count) as f64;
        }
    }
}
