//! Micro-GLUE: small synthetic stand-ins for the eight tasks, in GLUE's own columns, labels and metrics.
//!
//! Every text comes from grammars written for this project; nothing is taken from GLUE. A generator writes one row for
//! a wanted class; this module draws each set to its size and class balance, keeps rows unique over all sets, holds
//! out a fifth of the words from training, and turns a few labels so that no method can reach 100. The data never
//! changes without [`VERSION`] changing: a test holds the checksums.

mod cola;
mod draw;
mod mnli;
mod mrpc;
mod qnli;
mod qqp;
mod rte;
mod sst2;
mod stsb;
mod words;

use std::collections::HashSet;

use crate::dataset::Example;
use crate::dataset::{Dataset, checksum};
use crate::task::Task;
use draw::{Draw, Set};

/// Version of the generators; part of every seed, so that another version is other data throughout.
pub const VERSION: u32 = 1;

/// Rows of every development set.
const DEV_ROWS: usize = 128;

/// How one task is made.
struct Generator {
    /// Rows of the training set.
    train: usize,
    /// Percent of rows a class; a score has its levels.
    balance: &'static [usize],
    /// Percent of rows whose class is turned into another, in every set. 0 for a score, which has noise of its own.
    noise: usize,
    /// Writes a row for a class.
    write: fn(&mut Draw, usize) -> Row,
}

/// One generated row.
struct Row {
    first: String,
    second: Option<String>,
    label: f64,
}

impl Row {
    fn single(text: String, class: usize) -> Self {
        Row { first: text, second: None, label: class as f64 }
    }

    fn pair(first: String, second: String, class: usize) -> Self {
        Row { first, second: Some(second), label: class as f64 }
    }
}

/// The synthetic rows of `task`: the same on every machine, for ever.
pub fn dataset(task: &'static Task) -> Dataset {
    let generator = generator(task.name);
    let mut seen = HashSet::new();
    let train = draw_set(&generator, generator.train, Draw::new(task.name, Set::Train), &mut seen);
    let dev: Vec<(&'static str, Vec<Example>)> = task
        .dev_sets
        .iter()
        .map(|set| {
            let words = if set.name == "mismatched" { Set::Mismatched } else { Set::Dev };
            (set.name, draw_set(&generator, DEV_ROWS, Draw::new(task.name, words), &mut seen))
        })
        .collect();
    let sha256 = checksum(&train, &dev);
    Dataset { task, train, dev, files: Vec::new(), sha256, source: "micro" }
}

fn generator(task: &str) -> Generator {
    match task {
        "cola" => cola::GENERATOR,
        "sst2" => sst2::GENERATOR,
        "mrpc" => mrpc::GENERATOR,
        "qqp" => qqp::GENERATOR,
        "stsb" => stsb::GENERATOR,
        "mnli" => mnli::GENERATOR,
        "qnli" => qnli::GENERATOR,
        "rte" => rte::GENERATOR,
        other => unreachable!("task {other} has no generator of synthetic rows"),
    }
}

fn draw_set(generator: &Generator, rows: usize, mut draw: Draw, seen: &mut HashSet<String>) -> Vec<Example> {
    let mut classes = classes(generator.balance, rows);
    draw.shuffle(&mut classes);
    let mut examples: Vec<Example> = Vec::with_capacity(rows);
    while let Some(&class) = classes.get(examples.len()) {
        let row = (generator.write)(&mut draw, class);
        if seen.insert(format!("{}\t{}", row.first, row.second.as_deref().unwrap_or_default())) {
            examples.push(Example { first: row.first, second: row.second, label: row.label, row: examples.len() });
        }
    }
    turn_labels(generator, &mut examples, &mut draw);
    examples
}

/// The class of every row, sorted: `balance` percent each, the first class takes what rounding leaves.
fn classes(balance: &[usize], rows: usize) -> Vec<usize> {
    let mut classes: Vec<usize> =
        balance.iter().enumerate().flat_map(|(class, percent)| vec![class; rows * percent / 100]).collect();
    classes.resize(rows, 0);
    classes
}

fn turn_labels(generator: &Generator, examples: &mut [Example], draw: &mut Draw) {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    draw.shuffle(&mut order);
    let count = generator.balance.len();
    for &position in &order[..examples.len() * generator.noise / 100] {
        let class = examples[position].label as usize;
        examples[position].label = ((class + 1 + draw.below(count - 1)) % count) as f64;
    }
}
