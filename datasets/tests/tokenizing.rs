//! The tokenizer on a small made-up vocabulary.

mod support;

use std::fs;
use std::path::Path;

use datasets::tokenizer::charsmap::Charsmap;
use datasets::tokenizer::spm::SpmModel;
use datasets::tokenizer::{Behaviour, Tokenizer};
use datasets::{Error, Example};
use proptest::prelude::*;
use support::message;
use tempfile::tempdir;

const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\ncat\nsat\n##s\n.\n";

fn write(dir: &Path, file: &str, content: &str) {
    fs::write(dir.join(file), content).unwrap();
}

fn json(extra: &str) -> String {
    format!(
        r#"{{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": {{"type": "Whitespace"}},
        "post_processor": null, "decoder": null, {extra}
        "model": {{"type": "WordLevel", "vocab": {{"<pad>": 0, "<unk>": 1, "the": 2, "cat": 3}}, "unk_token": "<unk>"}}}}"#
    )
}

#[test]
fn a_vocabulary_is_a_bert_tokenizer() {
    let dir = tempdir().unwrap();
    write(dir.path(), "vocab.txt", VOCABULARY);
    let tokenizer = Tokenizer::from_dir(dir.path(), Behaviour::default()).unwrap();
    assert_eq!((tokenizer.pad_id(), tokenizer.vocab_size(), tokenizer.sha256().len()), (0, 9, 64));
    let single = tokenizer.encode("The cats SAT. dogs", None, 32).unwrap();
    assert_eq!(single.ids, [2, 4, 5, 7, 6, 8, 1, 3]);
    assert_eq!(single.type_ids, [0; 8]);
    let pair = tokenizer.encode("the cat", Some("sat"), 32).unwrap();
    assert_eq!((pair.ids, pair.type_ids), (vec![2, 4, 5, 3, 6, 3], vec![0, 0, 0, 0, 1, 1]));
    let empty_second = tokenizer.encode("the cat", Some(""), 32).unwrap();
    assert_eq!((empty_second.ids, empty_second.type_ids), (vec![2, 4, 5, 3], vec![0; 4]));
    assert_eq!(tokenizer.encode("the cat sat .", None, 4).unwrap().ids, [2, 4, 5, 3]);
    write(dir.path(), "tokenizer_config.json", r#"{"do_lower_case": false, "pad_token": "[PAD]", "other": null}"#);
    let cased = Tokenizer::from_dir(dir.path(), Behaviour::default()).unwrap();
    assert_eq!(cased.encode("The cat", None, 32).unwrap().ids, [2, 1, 5, 3]);
}

#[test]
fn rows_keep_their_label_and_number() {
    let dir = tempdir().unwrap();
    write(dir.path(), "vocab.txt", VOCABULARY);
    let row = Example { first: "the cat".into(), second: None, label: 2.5, row: 17 };
    let encoded = Tokenizer::from_dir(dir.path(), Behaviour::default()).unwrap().encode_all(&[row], 8).unwrap();
    assert_eq!((encoded[0].label, encoded[0].row, encoded[0].encoding.ids.len()), (2.5, 17, 4));
}

/// Its stored truncation and padding are a matter of the run.
#[test]
fn a_tokenizer_json_comes_first() {
    let dir = tempdir().unwrap();
    write(dir.path(), "vocab.txt", VOCABULARY);
    let stored = r#""truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "<pad>"},"#;
    write(dir.path(), "tokenizer.json", &json(stored));
    let tokenizer = Tokenizer::from_dir(dir.path(), Behaviour::default()).unwrap();
    assert_eq!(tokenizer.encode("the cat the", None, 8).unwrap().ids, [2, 3, 2]);
    assert_eq!(tokenizer.encode("the cat the", None, 2).unwrap().ids, [2, 3]);
    write(dir.path(), "tokenizer_config.json", r#"{"pad_token": {"content": "<unk>", "lstrip": false}}"#);
    assert_eq!(Tokenizer::from_dir(dir.path(), Behaviour::default()).unwrap().pad_id(), 1);
}

#[test]
fn what_is_wrong_is_said() {
    let dir = tempdir().unwrap();
    let error = || message(&Tokenizer::from_dir(dir.path(), Behaviour::default()).err().unwrap(), dir.path());
    insta::assert_snapshot!(error(), @"tokenizer (spm.model, tokenizer.json, vocab.txt, or vocab.json with merges.txt) not found: DIR. Point to a checkpoint directory that holds one of these");
    write(dir.path(), "vocab.txt", "[UNK]\n[CLS]\nthe\n");
    insta::assert_snapshot!(error(), @"DIR/vocab.txt is not readable as a WordPiece vocabulary: the token [SEP] is not in it. Download the checkpoint's tokenizer files again");
    write(dir.path(), "vocab.txt", "[UNK]\n[CLS]\n[SEP]\nthe\n");
    insta::assert_snapshot!(error(), @"DIR/vocab.txt is not readable as a tokenizer: it has no padding token. Download the checkpoint's tokenizer files again");
    write(dir.path(), "tokenizer.json", &json("")[..100]);
    assert!(error().starts_with("DIR/tokenizer.json is not readable as a tokenizer: "));
    write(dir.path(), "tokenizer_config.json", "{");
    assert!(error().starts_with("DIR/tokenizer_config.json is not readable as a tokenizer configuration: "));
}

#[test]
fn special_tokens_need_room() {
    let dir = tempdir().unwrap();
    write(dir.path(), "vocab.txt", VOCABULARY);
    let tokenizer = Tokenizer::from_dir(dir.path(), Behaviour::default()).unwrap();
    assert_eq!(tokenizer.encode("the cat", None, 2).unwrap().ids, [2, 3]);
    let error = tokenizer.encode("the cat", Some("sat"), 2).unwrap_err();
    assert!(matches!(error, Error::Encode { .. }));
    insta::assert_snapshot!(error, @"cannot tokenise: maximum length 2 is below the 3 special tokens of a row. Use a larger maximum length");
}

/// The small model of the fixtures.
fn spm() -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity/e1_tokenizer_small_unigram/spm.model");
    fs::read(path).unwrap()
}

fn from_spm(bytes: &[u8], behaviour: Behaviour) -> Result<Tokenizer, Error> {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("spm.model"), bytes).unwrap();
    Tokenizer::from_dir(dir.path(), behaviour)
}

#[test]
fn a_cut_sentencepiece_model_is_an_error() {
    let whole = spm();
    for length in (0..whole.len()).step_by(1009).chain([whole.len() - 1]) {
        let error = from_spm(&whole[..length], Behaviour::Sentencepiece).err().map(|e| e.to_string());
        let error = error.unwrap_or_else(|| panic!("{length} of {} bytes were taken", whole.len()));
        assert!(error.contains("spm.model is not readable as a sentencepiece model"), "{error}");
    }
}

const TEXT: &str = "The café is 東京, ½ of \u{1F600} e\u{301}\u{200b} [MASK] ﬁne  and\tso on";

proptest! {
    /// Any bytes give a tokenizer that encodes, or an error.
    #[test]
    fn a_damaged_sentencepiece_model_does_no_harm(places in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        let mut bytes = spm();
        let length = bytes.len();
        for (place, byte) in places {
            bytes[place % length] = byte;
        }
        for behaviour in [Behaviour::Sentencepiece, Behaviour::Fast] {
            if let Ok(tokenizer) = from_spm(&bytes, behaviour) {
                let _ = tokenizer.encode(TEXT, Some(TEXT), 64);
            }
        }
    }

    /// The normaliser's table alone, whose trie could lead anywhere.
    #[test]
    fn a_damaged_normaliser_does_no_harm(places in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        let mut table = SpmModel::parse(&spm()).unwrap().charsmap;
        let length = table.len();
        for (place, byte) in places {
            table[place % length] = byte;
        }
        if let Ok(charsmap) = Charsmap::parse(&table) {
            for (start, _) in TEXT.char_indices() {
                let _ = charsmap.longest(&TEXT[start..]);
            }
        }
    }

    #[test]
    fn every_text_has_ids(text in "\\PC{0,40}", length in 3usize..20) {
        for behaviour in [Behaviour::Sentencepiece, Behaviour::Fast] {
            let tokenizer = from_spm(&spm(), behaviour).unwrap();
            let encoding = tokenizer.encode(&text, Some(&text), length.max(4)).unwrap();
            prop_assert!(encoding.ids.len() <= length.max(4));
            prop_assert_eq!(encoding.ids.len(), encoding.type_ids.len());
            prop_assert!(encoding.ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
        }
    }
}
