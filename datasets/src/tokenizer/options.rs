//! The options of `tokenizer_config.json`, all in one table: honoured, irrelevant to ids, or refused by name.
//!
//! The reference is `AutoTokenizer` of transformers 4.57.1, which takes the fast class. An option that is in no row is
//! refused unless it is null.

use serde_json::{Map, Value};

use crate::tokenizer::class::Family;

/// Effect of an option on ids.
enum Rule {
    /// It is read by `settings.rs`.
    Honoured,
    /// It changes no id.
    Irrelevant,
    /// Only these values are taken; the text says why others are not.
    Only(fn(&Value) -> bool, &'static str),
}

use Rule::{Honoured, Irrelevant, Only};

/// One option. A row of one family comes before the row of all.
struct Row {
    name: &'static str,
    family: Option<Family>,
    rule: Rule,
}

const fn all(name: &'static str, rule: Rule) -> Row {
    Row { name, family: None, rule }
}

const fn of(family: Family, name: &'static str, rule: Rule) -> Row {
    Row { name, family: Some(family), rule }
}

const SLOW: &str = "the slow tokenizer heeds it and the fast one does not";
const PLACE: &str = "files are taken from the checkpoint's directory";
const VERSIONS: &str = "transformers 4 and 5 read it in two ways";

const TABLE: &[Row] = &[
    // Which class reads, and how.
    all("tokenizer_class", Honoured),
    of(Family::Bert, "do_lower_case", Honoured),
    of(Family::Deberta, "do_lower_case", Honoured),
    all("do_lower_case", Irrelevant),
    of(Family::Bert, "strip_accents", Honoured),
    all("strip_accents", Irrelevant),
    of(Family::Bert, "tokenize_chinese_chars", Honoured),
    all("tokenize_chinese_chars", Irrelevant),
    of(Family::Bert, "do_basic_tokenize", Only(is_true, SLOW)),
    all("do_basic_tokenize", Irrelevant),
    of(Family::Bert, "never_split", Only(is_special_only, SLOW)),
    all("never_split", Irrelevant),
    of(Family::Bert, "clean_text", Only(is_true, "the fast tokenizer always cleans")),
    all("clean_text", Irrelevant),
    of(Family::Bert, "wordpieces_prefix", Only(is_word_piece_prefix, "the prefix of the vocabulary is ##")),
    all("wordpieces_prefix", Irrelevant),
    of(Family::Deberta, "split_by_punct", Honoured),
    all("split_by_punct", Irrelevant),
    of(Family::Deberta, "sp_model_kwargs", Only(is_plain_spm, "a sampled or altered segmentation is not supported")),
    all("sp_model_kwargs", Irrelevant),
    of(Family::Deberta, "add_prefix_space", Only(is_true, VERSIONS)),
    of(Family::Bert, "add_prefix_space", Irrelevant),
    all("add_prefix_space", Honoured),
    all("add_bos_token", Only(is_false, VERSIONS)),
    all("add_eos_token", Only(is_false, VERSIONS)),
    all("split_special_tokens", Honoured),
    all("truncation_side", Honoured),
    all("padding_side", Only(is_right, "rows are padded on the right, and positions would move")),
    all("model_input_names", Honoured),
    // Tokens.
    all("bos_token", Honoured),
    all("eos_token", Honoured),
    all("unk_token", Honoured),
    all("sep_token", Honoured),
    all("pad_token", Honoured),
    all("cls_token", Honoured),
    all("mask_token", Honoured),
    all("additional_special_tokens", Honoured),
    all("extra_special_tokens", Honoured),
    all("added_tokens_decoder", Honoured),
    // Files of another place would decide ids.
    all("tokenizer_file", Only(is_own_json, PLACE)),
    all("vocab_file", Only(|_| false, PLACE)),
    all("merges_file", Only(|_| false, PLACE)),
    all("fast_tokenizer_files", Only(is_own_json_alone, "only tokenizer.json is read, whatever the version")),
    all("auto_map", Only(|_| false, "a tokenizer that is code of its own is not run")),
    all("from_slow", Only(is_false, VERSIONS)),
    all("unk_id", Irrelevant),
    // Decoding, lengths, padding and what is for other programs.
    all("errors", Irrelevant),
    all("trim_offsets", Irrelevant),
    all("clean_up_tokenization_spaces", Irrelevant),
    all("cleanup_tokenization_spaces", Irrelevant),
    all("keep_accents", Irrelevant),
    all("legacy", Irrelevant),
    all("vocab_type", Irrelevant),
    all("model_max_length", Irrelevant),
    all("max_len", Irrelevant),
    all("max_length", Irrelevant),
    all("model_type", Irrelevant),
    all("stride", Irrelevant),
    all("truncation", Irrelevant),
    all("truncation_strategy", Irrelevant),
    all("padding", Irrelevant),
    all("pad_to_multiple_of", Irrelevant),
    all("pad_token_type_id", Irrelevant),
    all("pad_token_id", Irrelevant),
    all("return_tensors", Irrelevant),
    all("name_or_path", Irrelevant),
    all("special_tokens_map_file", Irrelevant),
    all("added_tokens_file", Irrelevant),
    all("full_tokenizer_file", Irrelevant),
    all("tokenizer_config_file", Irrelevant),
    all("processor_class", Irrelevant),
    all("chat_template", Irrelevant),
    all("use_fast", Irrelevant),
    all("is_fast", Irrelevant),
    all("init_inputs", Only(is_empty, "arguments without names are not supported")),
    all("verbose", Irrelevant),
    all("backend", Irrelevant),
    all("is_local", Irrelevant),
    all("local_files_only", Irrelevant),
    all("transformers_version", Irrelevant),
    all("language", Irrelevant),
    all("device", Irrelevant),
    all("device_map", Irrelevant),
    all("trust_remote_code", Irrelevant),
    all("revision", Irrelevant),
    all("cache_dir", Irrelevant),
    all("token", Irrelevant),
    all("use_auth_token", Irrelevant),
    all("_commit_hash", Irrelevant),
    all("_from_auto", Irrelevant),
];

fn is_true(value: &Value) -> bool {
    value == &Value::Bool(true)
}

fn is_false(value: &Value) -> bool {
    value == &Value::Bool(false)
}

fn is_right(value: &Value) -> bool {
    value == "right"
}

fn is_word_piece_prefix(value: &Value) -> bool {
    value == "##"
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty)
}

/// Special tokens are never split anyway.
fn is_special_only(value: &Value) -> bool {
    let special = ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"];
    value.as_array().is_some_and(|tokens| tokens.iter().all(|token| special.iter().any(|known| token == known)))
}

/// Without sampling, `nbest_size` and `alpha` do nothing.
fn is_plain_spm(value: &Value) -> bool {
    let is_plain = |(name, value): (&String, &Value)| match name.as_str() {
        "nbest_size" | "alpha" | "num_threads" | "model_file" => true,
        "enable_sampling" | "add_bos" | "add_eos" | "reverse" | "emit_unk_piece" => is_false(value) || value.is_null(),
        _ => value.is_null(),
    };
    value.as_object().is_some_and(|options| options.iter().all(is_plain))
}

fn is_own_json(value: &Value) -> bool {
    value.as_str().is_some_and(|path| path.rsplit(['/', '\\']).next() == Some("tokenizer.json"))
}

fn is_own_json_alone(value: &Value) -> bool {
    value.as_array().is_some_and(|files| files.iter().all(|file| file == "tokenizer.json"))
}

/// Holds every option against the table.
///
/// # Errors
/// The first that is refused: its name, its value and the reason.
pub fn check(options: &Map<String, Value>, family: Family) -> Result<(), String> {
    options.iter().filter(|(_, value)| !value.is_null()).try_for_each(|(name, value)| {
        let row = TABLE.iter().find(|row| row.name == name && row.family.is_none_or(|only| only == family));
        match row.map(|row| &row.rule) {
            Some(Honoured | Irrelevant) => Ok(()),
            Some(Only(is_taken, _)) if is_taken(value) => Ok(()),
            Some(Only(_, reason)) => Err(format!("the option {name} = {value} is not supported: {reason}")),
            None => Err(format!("the option {name} = {value} is not known, and it may change ids")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, family: Family) -> Option<String> {
        check(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap(), family).err()
    }

    #[test]
    fn an_option_has_one_row_a_family() {
        for (index, row) in TABLE.iter().enumerate() {
            let hidden = TABLE[..index]
                .iter()
                .any(|earlier| earlier.name == row.name && (earlier.family.is_none() || earlier.family == row.family));
            assert!(!hidden, "{} is never reached", row.name);
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (text, part) in [
            (r#"{"do_basic_tokenize": false}"#, "do_basic_tokenize"),
            (r#"{"never_split": ["good"]}"#, "never_split"),
            (r#"{"padding_side": "left"}"#, "padding_side"),
            (r#"{"something_new": 1}"#, "something_new"),
            (r#"{"vocab_file": "/other/vocab.txt"}"#, "vocab_file"),
        ] {
            assert!(refused(text, Family::Bert).unwrap().contains(part), "{text}");
        }
        assert!(refused(r#"{"sp_model_kwargs": {"enable_sampling": true}}"#, Family::Deberta).is_some());
    }

    #[test]
    fn what_changes_nothing_is_taken() {
        for text in [
            r#"{"do_basic_tokenize": true, "never_split": null, "model_max_length": 512, "something_new": null}"#,
            r#"{"never_split": ["[UNK]", "[SEP]"], "padding_side": "right", "tokenizer_file": null}"#,
        ] {
            assert_eq!(refused(text, Family::Bert), None, "{text}");
        }
        assert_eq!(refused(r#"{"sp_model_kwargs": {}, "vocab_type": "spm"}"#, Family::Deberta), None);
        assert_eq!(refused(r#"{"do_lower_case": true, "errors": "replace"}"#, Family::Roberta), None);
    }
}
