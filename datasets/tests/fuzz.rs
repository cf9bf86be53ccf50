//! Inputs of the fuzz targets (`fuzz/`): seeds, and what the targets found. Readers give rows and ids or an error, and take
//! no more memory than a small multiple of the file.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use datasets::sources::load;
use datasets::tasks;
use datasets::tokenizer::{Behaviour, Tokenizer};
use support::memory::{Counting, bound, peak_of};
use support::{Form, JSONL, JSONL_LABELS, ParquetCodec, Written, compress, jsonl, rows, source, write, write_labels};
use tempfile::tempdir;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PATIENCE: Duration = Duration::from_secs(1);

fn inputs(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/fuzz").join(target)
}

/// Reads every input of a target, soon and within the bound of memory.
fn replay(target: &str, mut reads: impl FnMut(&[u8])) {
    let mut paths: Vec<PathBuf> = fs::read_dir(inputs(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no input of {target}");
    for path in paths {
        let input = fs::read(&path).unwrap();
        let started = Instant::now();
        let ((), peak) = peak_of(|| reads(&input));
        assert!(peak < bound(input.len()), "{}: {peak} bytes for {}", path.display(), input.len());
        assert!(started.elapsed() < PATIENCE, "{}: {:?}", path.display(), started.elapsed());
    }
}

fn encode(dir: &Path, behaviour: Behaviour) {
    let Ok(tokenizer) = Tokenizer::from_dir(dir, behaviour) else { return };
    for text in ["the good film, is it \u{1F600}?", "", "caf\u{e9} \u{6771}\u{4eac} <e1> [MASK] \u{fb01}ne"] {
        drop(tokenizer.encode(text, Some(text), 32));
    }
}

/// `tokenizer.json`, and after a zero byte its options.
fn write_tokenizer(dir: &Path, input: &[u8]) {
    let mut files = input.splitn(2, |&byte| byte == 0);
    fs::write(dir.join("tokenizer.json"), files.next().unwrap()).unwrap();
    fs::write(dir.join("tokenizer_config.json"), files.next().unwrap_or(b"{}")).unwrap();
}

/// One test for all targets: the count of memory is the process's.
#[test]
fn inputs_of_the_fuzz_targets_do_no_harm() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let tasks = ["cola", "rte", "stsb", "qqp"].map(|name| tasks::find(name).unwrap());
    replay("tsv", |input| {
        fs::write(at("train.tsv"), input).unwrap();
        tasks.iter().for_each(|task| drop(load::read(task, source(task, Form::Plain), &at("train.tsv"))));
    });
    replay("jsonl", |input| {
        fs::write(at("train.jsonl"), input).unwrap();
        JSONL_LABELS.iter().for_each(|labels| drop(datasets::sources::jsonl::read(labels, &JSONL, &at("train.jsonl"))));
    });
    replay("parquet", |input| {
        fs::write(at("train.parquet"), input).unwrap();
        tasks.iter().for_each(|task| drop(load::read(task, source(task, Form::Parquet), &at("train.parquet"))));
    });
    replay("tokenizer_json", |input| {
        write_tokenizer(dir.path(), input);
        encode(dir.path(), Behaviour::Fast);
    });
    let dir = tempdir().unwrap();
    replay("spm", |input| {
        fs::write(dir.path().join("spm.model"), input).unwrap();
        encode(dir.path(), Behaviour::Sentencepiece);
        encode(dir.path(), Behaviour::Fast);
    });
}

#[test]
#[ignore = "writes the seeds afresh"]
fn write_seeds() {
    let dir = tempdir().unwrap();
    for name in ["cola", "rte", "stsb", "qqp"] {
        let task = tasks::find(name).unwrap();
        for form in [Form::Plain, Form::Gzip, Form::Zstd] {
            let path = write(dir.path(), task, task.train(), form, &rows(task, 4));
            fs::copy(path, inputs("tsv").join(format!("{name}-{form:?}").to_lowercase())).unwrap();
        }
        let path = write(dir.path(), task, task.train(), Form::Parquet, &rows(task, 4));
        fs::copy(path, inputs("parquet").join(name)).unwrap();
    }
    for form in [Form::Plain, Form::Gzip, Form::Zstd] {
        let name = format!("pairs-{form:?}").to_lowercase();
        fs::write(inputs("jsonl").join(name), compress(form, jsonl(4).as_bytes())).unwrap();
    }
    let score = "\u{feff}{\"label\": 3.25, \"question\": \"q\", \"passage\": \"\"}\r\n\n";
    fs::write(inputs("jsonl").join("score"), score).unwrap();
    let codecs = ["none", "snappy", "gzip", "brotli", "zstd", "lz4"];
    for (name, codec) in codecs.iter().zip(ParquetCodec::all()) {
        write_labels(&inputs("parquet").join(name), "INT64 label", Written::Numbers(&[0, 1, 1]), codec, None);
    }
    let names = r#"{"info": {"features": {"label": {"names": ["not_entailment", "entailment"]}}}}"#;
    let path = inputs("parquet").join("truths");
    write_labels(&path, "BOOLEAN label", Written::Truths(&[true, false]), ParquetCodec::none(), Some(names));
    let path = inputs("parquet").join("texts");
    let labels = Written::Texts(&["entailment", "not_entailment"]);
    write_labels(&path, "BYTE_ARRAY label (UTF8)", labels, ParquetCodec::none(), None);
    for (name, table) in [("spm", &[][..]), ("spm-table", TABLE)] {
        fs::write(inputs("spm").join(name), spm(table)).unwrap();
        fs::write(dir.path().join("spm.model"), spm(table)).unwrap();
        Tokenizer::from_dir(dir.path(), Behaviour::Sentencepiece).unwrap();
        Tokenizer::from_dir(dir.path(), Behaviour::Fast).unwrap();
    }
    let dir = tempdir().unwrap();
    for (name, input) in tokenizers() {
        fs::write(inputs("tokenizer_json").join(name), &input).unwrap();
        write_tokenizer(dir.path(), &input);
        Tokenizer::from_dir(dir.path(), Behaviour::Fast).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

/// A trie without a key: its size, one block of units, and one replacement.
const TABLE: &[u8] = &{
    let mut table = [0; 4 + 4 * 256 + 2];
    (table[1], table[1028], table[1029]) = (4, b'x', 0);
    table
};

/// A field of a protocol buffer: bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = [content.len() as u8 & 0x7f | 0x80, (content.len() >> 7) as u8];
    [&[number << 3 | 2][..], &length, content].concat()
}

/// A sentencepiece model of a few pieces.
fn spm(table: &[u8]) -> Vec<u8> {
    let piece = |(text, kind): &(&str, u8)| {
        let score = [&[2 << 3 | 5][..], &(-(text.len() as f32)).to_le_bytes()].concat();
        field(1, &[field(1, text.as_bytes()), score, vec![3 << 3, *kind]].concat())
    };
    let pieces =
        [("[PAD]", 3), ("[CLS]", 3), ("[SEP]", 3), ("[UNK]", 2), ("\u{2581}the", 1), ("\u{2581}", 1), ("e", 1)];
    let mut model: Vec<u8> = pieces.iter().flat_map(piece).collect();
    model.extend(field(2, &[3 << 3, 1, 0x98, 2, 0]));
    model.extend(field(3, &[field(2, table), vec![3 << 3, 1, 4 << 3, 1, 5 << 3, 1]].concat()));
    model
}

/// Files of every model that a `tokenizer.json` may hold, some with their options.
fn tokenizers() -> Vec<(&'static str, Vec<u8>)> {
    let token = |id: u32, content: &str| {
        format!(
            r#"{{"id": {id}, "content": "{content}", "single_word": false, "lstrip": false, "rstrip": false,
"normalized": false, "special": true}}"#
        )
    };
    let file = |tokens: &[&str], parts: &str| {
        let added: Vec<String> = tokens.iter().zip(0..).map(|(content, id)| token(id, content)).collect();
        let added = added.join(",\n");
        format!(r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [{added}], {parts}}}"#)
    };
    let bert = file(
        &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
        r###""normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
"strip_accents": null, "lowercase": true}, "pre_tokenizer": {"type": "BertPreTokenizer"},
"post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true}, "model": {"type": "WordPiece",
"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
"vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "the": 5, "good": 6, "##s": 7}}"###,
    );
    let bert_options = r#"{"tokenizer_class": "BertTokenizer", "do_lower_case": true, "strip_accents": null,
"model_max_length": 512, "cls_token": "[CLS]", "additional_special_tokens": ["<e1>"],
"added_tokens_decoder": {"8": {"content": "<e1>", "lstrip": true, "normalized": false, "rstrip": false,
"single_word": false, "special": true}}}"#;
    let roberta = file(
        &["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        r#""normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false,
"trim_offsets": true, "use_regex": true}, "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 2],
"cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": false}, "decoder": {"type": "ByteLevel",
"add_prefix_space": true, "trim_offsets": true, "use_regex": true}, "model": {"type": "BPE", "dropout": null,
"unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
"byte_fallback": false, "ignore_merges": false, "vocab": {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4,
"t": 5, "h": 6, "e": 7, "th": 8, "the": 9}, "merges": [["t", "h"], ["th", "e"]]}"#,
    );
    let roberta_options =
        r#"{"tokenizer_class": "RobertaTokenizer", "add_prefix_space": true, "padding_side": "right"}"#;
    let template = r#""post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]",
"type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}},
{"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1],
"tokens": ["[CLS]"]}}}, "decoder": {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": true}"#;
    let unigram = file(
        &["[PAD]", "[CLS]", "[SEP]", "[UNK]"],
        &(r#""normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Lowercase"},
{"type": "Strip", "strip_left": true, "strip_right": true}, {"type": "Replace", "pattern": {"Regex": " {2,}"},
"content": " "}, {"type": "Prepend", "prepend": "_"}]}, "pre_tokenizer": {"type": "Sequence", "pretokenizers":
[{"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": true}, {"type": "Digits",
"individual_digits": true}, {"type": "Punctuation", "behavior": "Isolated"}]}, "#
            .to_string()
            + template
            + r#", "model": {"type": "Unigram", "unk_id": 3, "byte_fallback": false, "vocab": [["[PAD]", 0.0],
["[CLS]", 0.0], ["[SEP]", 0.0], ["[UNK]", -9.5], ["_the", -1.5], ["_", -2.0], ["e", -3.0]]}"#),
    );
    let unigram_options = r#"{"tokenizer_class": "DebertaV2Tokenizer", "do_lower_case": true, "split_by_punct": true,
"pad_token": "[PAD]", "truncation_side": "left"}"#;
    let words = file(
        &["[PAD]", "[CLS]"],
        &(r#""normalizer": {"type": "StripAccents"}, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\w+|\\s"},
"behavior": "MergedWithPrevious", "invert": false}, "#
            .to_string()
            + template
            + r#", "model": {"type": "WordLevel", "unk_token": "[CLS]", "vocab": {"[PAD]": 0, "[CLS]": 1, "the": 2}}"#),
    );
    let both = |json: &str, options: &str| [json.as_bytes(), b"\0", options.as_bytes()].concat();
    vec![
        ("bert", both(&bert, bert_options)),
        ("roberta", both(&roberta, roberta_options)),
        ("unigram", both(&unigram, unigram_options)),
        ("words", both(&words, r#"{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}"#)),
        ("alone", bert.into_bytes()),
    ]
}
