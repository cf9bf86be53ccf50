//! `tokenizer.json`, and after a zero byte `tokenizer_config.json`.
#![no_main]

use datasets::tokenizer::{Behaviour, Tokenizer};
use libfuzzer_sys::fuzz_target;
use rankbench_fuzz::{check, dir, start, two, write};

fuzz_target!(init: start(), |input: &[u8]| {
    let (json, config) = two(input);
    write("tokenizer.json", json);
    write("tokenizer_config.json", config.unwrap_or(b"{}"));
    check(input.len(), || {
        let Ok(tokenizer) = Tokenizer::from_dir(dir(), Behaviour::Fast) else { return };
        for text in ["the good film, is it \u{1F600}?", "", "caf\u{e9} \u{6771}\u{4eac} <e1> [MASK] \u{fb01}ne"] {
            drop(tokenizer.encode(text, Some(text), 32));
        }
    });
});
