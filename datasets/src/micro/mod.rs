//! Micro-GLUE: small synthetic stand-ins for the eight tasks, in GLUE's own columns, labels and metrics.
//!
//! Every text comes from grammars written for this project; nothing is taken from GLUE. A generator writes one row for
//! a wanted class; this module draws each set to its size and class balance, keeps rows unique over all sets, holds
//! out a fifth of the words from training, and turns a few labels so that no method can reach 100. The data never
//! changes without [`VERSION`] changing: a test holds the checksums.

mod cola;
mod draw;
mod generator;
mod mnli;
mod mrpc;
mod qnli;
mod qqp;
mod rte;
mod sst2;
mod stsb;
mod words;

use std::collections::HashSet;

pub use self::draw::VERSION;
use self::draw::{Draw, Set};
use self::generator::Generator;
use crate::dataset::{Dataset, Example, checksum};
use crate::error::{Error, Result};
use crate::task::{SetSpec, Task};

/// Rows of every development set.
const DEV_ROWS: usize = 128;

/// Every generator, in the order of the tasks. A task need not have one.
static GENERATORS: &[Generator] = &[
    cola::GENERATOR,
    sst2::GENERATOR,
    mrpc::GENERATOR,
    qqp::GENERATOR,
    stsb::GENERATOR,
    mnli::GENERATOR,
    qnli::GENERATOR,
    rte::GENERATOR,
];

/// Names of the tasks that have synthetic rows.
pub fn tasks() -> impl Iterator<Item = &'static str> {
    GENERATORS.iter().map(|generator| generator.task)
}

/// The synthetic rows of `task`: the same on every machine, for ever.
///
/// # Errors
/// [`Error::NotSynthetic`] for a task without a generator.
pub fn dataset(task: &'static Task) -> Result<Dataset> {
    let generator = GENERATORS.iter().find(|generator| generator.task == task.name);
    let generator = generator
        .ok_or_else(|| Error::NotSynthetic { task: task.name.into(), known: tasks().map(String::from).collect() })?;
    let mut seen = HashSet::new();
    let train = generator.set(generator.train, Draw::new(task.name, Set::Train), &mut seen);
    let of_set = |set: &'static SetSpec| {
        let words = if set.name == "mismatched" { Set::Mismatched } else { Set::Dev };
        (set.name, generator.set(DEV_ROWS, Draw::new(task.name, words), &mut seen))
    };
    let dev: Vec<(&'static str, Vec<Example>)> = task.dev_sets().iter().map(of_set).collect();
    let sha256 = checksum(&train, &dev);
    Ok(Dataset { task, train, dev, files: Vec::new(), sha256, source: "micro" })
}
