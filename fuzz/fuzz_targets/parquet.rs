//! Rows of a parquet file, of classes and of scores.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rankbench_fuzz::{check, start, write};

fuzz_target!(init: start(), |input: &[u8]| {
    let path = write("train.parquet", input);
    // The bytes that its pages and rows may hold.
    check(input.len() * 64, || {
        for task in ["rte", "stsb"].map(|name| datasets::tasks::find(name).unwrap()) {
            drop(datasets::sources::load::read(task, &task.sources[1], &path));
        }
    });
});
