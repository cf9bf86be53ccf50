//! The files beside a vocabulary, against ids that transformers 4.57.1 gave for the same directory
//! (`AutoTokenizer.from_pretrained(dir)(text)["input_ids"]`). `just parity tokens` does it for a few thousand directories.

use std::fs;
use std::path::Path;

use datasets::tokenizer::{Behaviour, Embeddings, Tokenizer};
use datasets::{Error, Example};
use tempfile::{TempDir, tempdir};

const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nbad\nthe\nfilm\nis\nGood\nFilm\ncaf\u{e9}\ncafe\n";
/// Tokens of [`VOCABULARY`].
const SIZE: u32 = 14;

fn with(files: &[(&str, &str)]) -> TempDir {
    let dir = tempdir().unwrap();
    for (file, content) in files {
        fs::write(dir.path().join(file), content).unwrap();
    }
    dir
}

fn bert(files: &[(&str, &str)]) -> TempDir {
    let dir = with(&[("vocab.txt", VOCABULARY), ("config.json", r#"{"model_type": "bert"}"#)]);
    for (file, content) in files {
        fs::write(dir.path().join(file), content).unwrap();
    }
    dir
}

fn read(dir: &Path) -> Tokenizer {
    Tokenizer::from_dir(dir, Behaviour::Fast).unwrap()
}

fn ids(dir: &TempDir, text: &str) -> Vec<u32> {
    read(dir.path()).encode(text, None, 64).unwrap().ids
}

fn refusal(files: &[(&str, &str)]) -> String {
    let dir = bert(files);
    let error = Tokenizer::from_dir(dir.path(), Behaviour::Fast).err().unwrap_or_else(|| panic!("taken: {files:?}"));
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    error.to_string().replace(&dir.path().display().to_string(), "DIR")
}

fn json(lowercase: bool) -> String {
    let vocabulary: Vec<String> =
        VOCABULARY.lines().enumerate().map(|(id, token)| format!("\"{token}\": {id}")).collect();
    let added: Vec<String> = VOCABULARY
        .lines()
        .take(5)
        .enumerate()
        .map(|(id, token)| {
            format!(
                r#"{{"id": {id}, "content": "{token}", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}}"#
            )
        })
        .collect();
    format!(
        r###"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [{}],
        "normalizer": {{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
        "lowercase": {lowercase}}}, "pre_tokenizer": {{"type": "BertPreTokenizer"}},
        "post_processor": {{"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}}, "decoder": null,
        "model": {{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": {{{}}}}}}}"###,
        added.join(", "),
        vocabulary.join(", ")
    )
}

#[test]
fn the_configuration_overrides_the_stored_normaliser() {
    let stored = json(true);
    let cased = bert(&[("tokenizer.json", &stored), ("tokenizer_config.json", r#"{"do_lower_case": false}"#)]);
    assert_eq!(ids(&cased, "Good Film is good"), [2, 10, 11, 9, 5, 3]);
    let accents = bert(&[("tokenizer.json", &stored), ("tokenizer_config.json", r#"{"strip_accents": false}"#)]);
    assert_eq!(ids(&accents, "the caf\u{e9}"), [2, 7, 12, 3]);
    // The class's default is lower case, whatever was stored.
    let plain = bert(&[("tokenizer.json", &json(false))]);
    assert_eq!(ids(&plain, "Good"), [2, 5, 3]);
    // Another class takes what is stored.
    let class = r#"{"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": true}"#;
    let other = bert(&[("tokenizer.json", &json(false)), ("tokenizer_config.json", class)]);
    assert_eq!(ids(&other, "Good"), [2, 10, 3]);
}

#[test]
fn added_tokens_of_every_file_have_one_id() {
    let token = r#"{"content": "<e1>", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false,
        "special": true}"#;
    let decoder = format!(r#"{{"added_tokens_decoder": {{"{SIZE}": {token}}}}}"#);
    let map = format!(r#"{{"additional_special_tokens": [{token}]}}"#);
    for files in [
        ("added_tokens.json", r#"{"<e1>": 14}"#),
        ("tokenizer_config.json", decoder.as_str()),
        ("tokenizer_config.json", r#"{"additional_special_tokens": ["<e1>"]}"#),
        ("special_tokens_map.json", map.as_str()),
    ] {
        assert_eq!(ids(&bert(&[files]), "the <e1> film"), [2, 7, SIZE, 8, 3], "{files:?}");
    }
}

#[test]
fn flags_of_added_tokens_are_honoured() {
    let with_flag = |flag: &str| {
        let token = format!(r#"{{"content": "bad", "special": false, "normalized": true, "{flag}": true}}"#);
        bert(&[("tokenizer_config.json", &format!(r#"{{"added_tokens_decoder": {{"6": {token}}}}}"#))])
    };
    assert_eq!(ids(&with_flag("lstrip"), "goodbad good"), [2, 5, 6, 5, 3]);
    assert_eq!(ids(&with_flag("single_word"), "goodbad good"), [2, 1, 5, 3]);
}

#[test]
fn rows_are_cut_on_the_side_that_is_asked_for() {
    let left = bert(&[("tokenizer_config.json", r#"{"truncation_side": "left"}"#)]);
    assert_eq!(read(left.path()).encode("good bad the film", None, 4).unwrap().ids, [2, 7, 8, 3]);
    assert_eq!(read(bert(&[]).path()).encode("good bad the film", None, 4).unwrap().ids, [2, 5, 6, 3]);
}

#[test]
fn a_model_without_segments_gets_none() {
    let names = r#"{"model_input_names": ["input_ids", "attention_mask"]}"#;
    let encoding = read(bert(&[("tokenizer_config.json", names)]).path()).encode("good", Some("bad"), 16).unwrap();
    assert_eq!((encoding.ids, encoding.type_ids), (vec![2, 5, 3, 6, 3], vec![0; 5]));
}

#[test]
fn a_space_before_the_text_is_honoured() {
    let vocabulary = r#"{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "t": 4, "Ġ": 5, "Ġt": 6, "<mask>": 7}"#;
    let files = [("vocab.json", vocabulary), ("merges.txt", "#version: 0.2\nĠ t\n")];
    assert_eq!(ids(&with(&files), "t t"), [0, 4, 6, 2]);
    let space = ("tokenizer_config.json", r#"{"add_prefix_space": true}"#);
    assert_eq!(ids(&with(&[files[0], files[1], space]), "t t"), [0, 6, 6, 2]);
    let cut = with(&[files[0], ("merges.txt", "#version: 0.2\nĠ t")]);
    let error = Tokenizer::from_dir(cut.path(), Behaviour::Fast).err().unwrap().to_string();
    assert!(error.contains("merges.txt") && error.contains("no line break"), "{error}");
}

#[test]
fn deberta_options_hold_in_both_behaviours() {
    let fixture =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity/e1_tokenizer_small_unigram/spm.model");
    let spm = fs::read(fixture).unwrap();
    let encode = |config: &str, behaviour, text: &str| {
        let dir = with(&[("tokenizer_config.json", config)]);
        fs::write(dir.path().join("spm.model"), &spm).unwrap();
        let tokenizer = Tokenizer::from_dir(dir.path(), behaviour).unwrap();
        (tokenizer.encode(text, None, 64).unwrap().ids, tokenizer.sha256().to_string())
    };
    for behaviour in [Behaviour::Sentencepiece, Behaviour::Fast] {
        let plain = |text| encode("{}", behaviour, text);
        let lower = encode(r#"{"do_lower_case": true}"#, behaviour, "The FILM");
        assert_eq!(lower.0, plain("the film").0);
        let parts = encode(r#"{"split_by_punct": true}"#, behaviour, "good, film");
        assert_ne!(parts.0, plain("good, film").0);
        let harmless = encode(r#"{"do_lower_case": false, "vocab_type": "spm"}"#, behaviour, "the film");
        assert_eq!(harmless, plain("the film"), "nor does the checksum change");
        assert!(lower.1 != harmless.1 && parts.1 != harmless.1 && lower.1 != parts.1);
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (config, name) in [
        (r#"{"do_basic_tokenize": false}"#, "do_basic_tokenize"),
        (r#"{"never_split": ["good"]}"#, "never_split"),
        (r#"{"padding_side": "left"}"#, "padding_side"),
        (r#"{"stranger": 1}"#, "stranger"),
        (r#"{"tokenizer_class": "T5Tokenizer"}"#, "T5Tokenizer"),
        (r#"{"do_lower_case": "yes"}"#, "do_lower_case"),
        (r#"{"cls_token": 5}"#, "cls_token"),
    ] {
        let text = refusal(&[("tokenizer_config.json", config)]);
        assert!(text.starts_with("DIR/tokenizer_config.json") && text.contains(name), "{text}");
    }
    assert!(refusal(&[("added_tokens.json", r#"{"<e1>": -1}"#)]).contains("added_tokens.json"));
}

/// The sum of a directory whose further files change nothing is that of the vocabulary, as it has always been.
#[test]
fn the_checksum_changes_with_the_ids_alone() {
    let sum = |files: &[(&str, &str)]| read(bert(files).path()).sha256().to_string();
    let plain = sum(&[]);
    // Python: sha256(vocab + b"true None true None").
    assert_eq!(plain, "06214371ea69472797ffefbeb1f3635b9b927be0299ac911ff33cf95b3136d96");
    let harmless = r#"{"mask_token": "[MASK]", "cls_token": "[CLS]"}"#;
    for files in [("special_tokens_map.json", harmless), ("tokenizer_config.json", r#"{"model_max_length": 512}"#)] {
        assert_eq!(sum(&[files]), plain, "{files:?}");
    }
    for files in [
        ("added_tokens.json", r#"{"<e1>": 14}"#),
        ("special_tokens_map.json", r#"{"additional_special_tokens": ["film"]}"#),
        ("tokenizer_config.json", r#"{"truncation_side": "left"}"#),
        ("tokenizer_config.json", r#"{"do_lower_case": false}"#),
    ] {
        assert_ne!(sum(&[files]), plain, "{files:?}");
    }
    let stored = json(true);
    let (json_alone, overridden) = (
        sum(&[("tokenizer.json", &stored)]),
        sum(&[("tokenizer.json", &stored), ("tokenizer_config.json", r#"{"do_lower_case": false}"#)]),
    );
    assert_ne!(json_alone, overridden);
}

#[test]
fn what_has_no_embedding_is_refused() {
    let row = |first: &str| Example { first: first.into(), second: None, label: 0.0, row: 3 };
    let dir = bert(&[("added_tokens.json", r#"{"<e1>": 14}"#)]);
    let held = |tokens, segments| read(dir.path()).with_embeddings(Embeddings { tokens, segments });
    assert!(held(15, 2).encode_all(&[row("the <e1>")], 16).is_ok());
    let error = held(14, 2).encode_all(&[row("good"), row("the <e1>")], 16).unwrap_err().to_string();
    assert!(error.contains("row 3") && error.contains("14") && error.contains("<e1>"), "{error}");
    assert!(held(15, 2).check_pairs().is_ok());
    let error = held(15, 1).check_pairs().unwrap_err().to_string();
    assert!(error.contains("2 segments") && error.contains("1 segment embedding"), "{error}");
}
