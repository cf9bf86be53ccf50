//! Damaged files: whatever stands in a file, its reader gives rows and ids or an error, and takes no more memory than a
//! small multiple of the file. Seeds are made here, mutations are the same in every run. `MUTATIONS=N` makes N of each kind
//! (60 where it is not set).

mod support;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use datasets::sources::load;
use datasets::tasks;
use datasets::tokenizer::{Behaviour, Tokenizer};
use support::memory::{Counting, bound, peak_of};
use support::{Form, JSONL, JSONL_LABELS, compress, fixtures, jsonl, rows, source, write};
use tempfile::tempdir;
use tokenizers::normalizers::Precompiled;

/// One kind of file at a time: the peak is the process's.
static ALONE: Mutex<()> = Mutex::new(());

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PATIENCE: Duration = Duration::from_secs(10);
const TEXTS: [&str; 3] = ["the good film, is it \u{1F600}?", "", "caf\u{e9} \u{6771}\u{4eac} <e1> [MASK] \u{fb01}ne"];

fn count() -> u64 {
    std::env::var("MUTATIONS").map_or(60, |count| count.parse().expect("MUTATIONS is a number"))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

/// A damaged copy: a few bytes changed, cut out, doubled, or numbers made large.
fn mutated(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        let length = random.below(24).min(bytes.len() - at);
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => drop(bytes.drain(at..at + length)),
            3 => {
                let copy = bytes[at..at + length].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => {
                let large: &[u8] =
                    [&b"4294967295"[..], b"-1", b"1e99", b"null", b"\xff\xff\xff\x7f", b"[[[["][random.below(6)];
                bytes.splice(at..at + length.min(large.len()), large.iter().copied());
            }
            5 => {
                let digits: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
                if !digits.is_empty() {
                    let at = digits[random.below(digits.len())];
                    bytes.splice(at..at, *b"99999999");
                }
            }
            _ => bytes.truncate(bytes.len() - random.below(bytes.len() / 4 + 1)),
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}

/// Reads damaged copies of `seed`; gives how many were taken.
fn survive(kind: &str, seed: &[u8], mut reads: impl FnMut(&[u8]) -> bool) -> usize {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    assert!(reads(seed), "{kind}: the seed itself is not read");
    let mut taken = 0;
    for number in 0..count() {
        let bytes = mutated(seed, &mut Random(number));
        let started = Instant::now();
        let (is_taken, peak) = peak_of(|| reads(&bytes));
        taken += usize::from(is_taken);
        let took = started.elapsed();
        assert!(peak < bound(bytes.len()), "{kind} {number}: {peak} bytes for {}", bytes.len());
        assert!(took < PATIENCE, "{kind} {number}: {took:?}");
    }
    taken
}

fn encodes(dir: &Path, behaviour: Behaviour) -> bool {
    let Ok(tokenizer) = Tokenizer::from_dir(dir, behaviour) else { return false };
    TEXTS.iter().for_each(|text| drop(tokenizer.encode(text, Some(text), 32)));
    true
}

const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\ngood\nfilm\n##s\n,\n";

fn spm() -> Vec<u8> {
    fs::read(fixtures().join("e1_tokenizer_small_unigram/spm.model")).unwrap()
}

fn tokenizer_json(normalizer: &str) -> String {
    let added = |id: u32, content: &str| {
        format!(
            r#"{{"id": {id}, "content": "{content}", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}}"#
        )
    };
    let special: Vec<String> =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].iter().zip(0..).map(|(token, id)| added(id, token)).collect();
    let vocabulary: Vec<String> =
        VOCABULARY.lines().enumerate().map(|(id, token)| format!("\"{token}\": {id}")).collect();
    format!(
        r###"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [{}], "normalizer": {normalizer},
        "pre_tokenizer": {{"type": "BertPreTokenizer"}},
        "post_processor": {{"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}}, "decoder": null,
        "model": {{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": {{{}}}}}}}"###,
        special.join(", "),
        vocabulary.join(", ")
    )
}

#[test]
fn a_damaged_tokenizer_json_does_no_harm() {
    let bert = r#"{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
        "lowercase": true}"#;
    let charsmap = datasets::tokenizer::spm::SpmModel::parse(&spm()).unwrap().charsmap;
    let table = serde_json::to_string(&Precompiled::from(&charsmap).unwrap()).unwrap();
    for (kind, normalizer) in [("tokenizer.json", bert), ("tokenizer.json with a table", table.as_str())] {
        let dir = tempdir().unwrap();
        survive(kind, tokenizer_json(normalizer).as_bytes(), |bytes| {
            fs::write(dir.path().join("tokenizer.json"), bytes).unwrap();
            encodes(dir.path(), Behaviour::Fast)
        });
    }
}

#[test]
fn damaged_option_files_do_no_harm() {
    let token = r#"{"content": "<e1>", "lstrip": true, "normalized": false, "rstrip": false, "single_word": false,
        "special": true}"#;
    let config = format!(
        r#"{{"tokenizer_class": "BertTokenizer", "do_lower_case": true, "strip_accents": null, "model_max_length": 512,
        "cls_token": "[CLS]", "additional_special_tokens": ["<e1>"], "added_tokens_decoder": {{"10": {token}}}}}"#
    );
    let map = format!(r#"{{"mask_token": "[MASK]", "additional_special_tokens": [{token}]}}"#);
    for (file, seed) in [
        ("tokenizer_config.json", config.as_str()),
        ("special_tokens_map.json", map.as_str()),
        ("added_tokens.json", r#"{"<e1>": 10, "[MASK]": 4}"#),
    ] {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join("vocab.txt"), VOCABULARY).unwrap();
        survive(file, seed.as_bytes(), |bytes| {
            fs::write(dir.path().join(file), bytes).unwrap();
            encodes(dir.path(), Behaviour::Fast)
        });
    }
}

#[test]
fn damaged_vocabularies_do_no_harm() {
    let dir = tempdir().unwrap();
    survive("vocab.txt", VOCABULARY.as_bytes(), |bytes| {
        fs::write(dir.path().join("vocab.txt"), bytes).unwrap();
        encodes(dir.path(), Behaviour::Fast)
    });
    let vocabulary = r#"{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "t": 4, "h": 5, "e": 6, "th": 7, "the": 8}"#;
    let merges = "#version: 0.2\nt h\nth e\n";
    for file in ["vocab.json", "merges.txt"] {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join("vocab.json"), vocabulary).unwrap();
        fs::write(dir.path().join("merges.txt"), merges).unwrap();
        let seed = fs::read(dir.path().join(file)).unwrap();
        survive(file, &seed, |bytes| {
            fs::write(dir.path().join(file), bytes).unwrap();
            encodes(dir.path(), Behaviour::Fast)
        });
    }
}

#[test]
fn a_damaged_sentencepiece_model_takes_no_memory() {
    let dir = tempdir().unwrap();
    for behaviour in [Behaviour::Sentencepiece, Behaviour::Fast] {
        survive("spm.model", &spm(), |bytes| {
            fs::write(dir.path().join("spm.model"), bytes).unwrap();
            encodes(dir.path(), behaviour)
        });
    }
}

#[test]
fn damaged_jsonl_does_no_harm() {
    for form in [Form::Plain, Form::Gzip, Form::Zstd] {
        let dir = tempdir().unwrap();
        let path = dir.path().join("train.jsonl");
        let mut messages = Vec::new();
        let taken = survive(&format!("JSONL {form:?}"), &compress(form, jsonl(40).as_bytes()), |bytes| {
            fs::write(&path, bytes).unwrap();
            let _ = datasets::sources::jsonl::read(&JSONL_LABELS[1], &JSONL, &path);
            let read = datasets::sources::jsonl::read(&JSONL_LABELS[0], &JSONL, &path);
            messages.extend(read.as_ref().err().map(ToString::to_string));
            read.is_ok()
        });
        // Damage of text is seen, and said with the file; a packed file's own checks see nearly all of it.
        assert!(taken as u64 <= count() + 1 && !messages.is_empty(), "{form:?}: {taken} taken");
        assert!(messages.iter().all(|message| message.contains("train.jsonl")), "{messages:?}");
    }
}

#[test]
fn damaged_rows_do_no_harm() {
    let task = tasks::find("rte").unwrap();
    for form in [Form::Plain, Form::Gzip, Form::Zstd, Form::Parquet] {
        let dir = tempdir().unwrap();
        let path = write(dir.path(), task, task.train(), form, &rows(task, 40));
        survive(&format!("{form:?}"), &fs::read(&path).unwrap(), |bytes| {
            fs::write(&path, bytes).unwrap();
            load::read(task, source(task, form), &path).is_ok()
        });
    }
}
