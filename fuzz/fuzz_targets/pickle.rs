//! `pytorch_model.bin` of a tiny backbone.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rankbench_fuzz::{start, tiny, write};

fuzz_target!(init: { start(); write("config.json", tiny::CONFIG.as_bytes()) }, |input: &[u8]| {
    tiny::load("pytorch_model.bin", input);
});
