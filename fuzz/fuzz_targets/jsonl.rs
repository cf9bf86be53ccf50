//! Rows of a JSONL file, plain or compressed, of classes and of scores.
#![no_main]

use datasets::Labels;
use datasets::sources::jsonl;
use datasets::task::{Column, FileFormat, Source};
use libfuzzer_sys::fuzz_target;
use rankbench_fuzz::{check, start, write};

const SOURCE: Source = Source {
    format: FileFormat::Jsonl,
    repository: None,
    files: &[],
    text: &[Column::Named("question"), Column::Named("passage")],
    label: Column::Named("label"),
};

fuzz_target!(init: start(), |input: &[u8]| {
    let path = write("train.jsonl", input);
    // The bytes that a compressed file may unpack to.
    let is_packed = [&b"\x28\xb5\x2f\xfd"[..], b"\x1f\x8b"].iter().any(|start| input.starts_with(start));
    check(input.len() * if is_packed { 64 } else { 1 }, || {
        for labels in [Labels::Classes(&["False", "True"]), Labels::Score(0.0, 5.0)] {
            drop(jsonl::read(&labels, &SOURCE, &path));
        }
    });
});
