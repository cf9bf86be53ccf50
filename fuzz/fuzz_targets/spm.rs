//! A sentencepiece model, read as sentencepiece itself does and as the fast tokenizer does.
#![no_main]

use datasets::tokenizer::{Behaviour, Tokenizer};
use libfuzzer_sys::fuzz_target;
use rankbench_fuzz::{check, dir, start, write};

fuzz_target!(init: start(), |input: &[u8]| {
    write("spm.model", input);
    check(input.len(), || {
        for behaviour in [Behaviour::Sentencepiece, Behaviour::Fast] {
            let Ok(tokenizer) = Tokenizer::from_dir(dir(), behaviour) else { continue };
            drop(tokenizer.encode("the good film, is it \u{1F600}?", Some("caf\u{e9} \u{fb01}ne  x"), 32));
        }
    });
});
