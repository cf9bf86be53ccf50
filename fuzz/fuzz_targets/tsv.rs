//! Rows of a TSV file, plain or compressed: with and without a header, with scores, with lines that may be cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rankbench_fuzz::{check, start, write};

fuzz_target!(init: start(), |input: &[u8]| {
    let path = write("train.tsv", input);
    // The bytes that a compressed file may unpack to.
    let is_packed = [&b"\x28\xb5\x2f\xfd"[..], b"\x1f\x8b"].iter().any(|start| input.starts_with(start));
    check(input.len() * if is_packed { 64 } else { 1 }, || {
        for task in ["cola", "rte", "stsb", "qqp"].map(|name| datasets::tasks::find(name).unwrap()) {
            drop(datasets::sources::load::read(task, &task.sources[0], &path));
        }
    });
});
