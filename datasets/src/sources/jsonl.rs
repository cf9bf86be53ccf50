//! One JSON object a line. Text is what the JSON string holds, its escapes resolved; a label is a string, a number or a truth
//! value. Other keys are skipped, whatever they hold.

use std::collections::HashSet;
use std::fmt::{Formatter, Result as Written};
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::dataset::{Example, ParsedFile};
use crate::error::{Result, nearest};
use crate::sources::columns::{CHECK_FILE, GET_AGAIN, LinePosition, corrupt, example, expected_class, label};
use crate::sources::compression::decompressed;
use crate::sources::lines::lines;
use crate::task::{Column, Labels, Source};

/// Longest line in bytes: a file that is one list, or has lost its line ends, is no JSONL.
const LONGEST_LINE: usize = 16 << 20;
/// Keys that a message lists.
const MOST_KEYS: usize = 12;

/// Reads a JSONL file, plain or compressed with gzip or zstd (told apart by content).
///
/// A byte order mark and empty lines at the end are not rows; lines may end in LF, in CR LF or in both ways. A key that
/// stands twice in an object is refused: readers differ in which of the two they take.
///
/// # Errors
/// [`crate::error::Error::Io`] and [`crate::error::Error::Corrupt`] where the bytes cannot be had or the file is empty,
/// [`crate::error::Error::Row`] where a line does not fit.
pub fn read(labels: &Labels, source: &Source, path: &Path) -> Result<ParsedFile> {
    let content = decompressed(path)?;
    // Line ends are no part of a JSON text: they need not be the same throughout.
    let lines = lines(&content, path, true)?;
    if lines.is_empty() {
        return Err(corrupt(path, "JSONL", "it is empty".into()));
    }
    let keys = source.text.iter().chain([&source.label]).map(|column| key(column, path)).collect::<Result<Vec<_>>>()?;
    // Grown row by row: a damaged file is not all rows.
    let mut examples = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let place = LinePosition { path, line: number + 1 };
        examples.push(row(line, &keys, labels, examples.len(), &place)?);
    }
    Ok(ParsedFile { examples, sha256: hex::encode(Sha256::digest(&content)) })
}

fn key(column: &Column, path: &Path) -> Result<&'static str> {
    match *column {
        Column::Named(name) => Ok(name),
        Column::At(at) => Err(corrupt(path, "JSONL", format!("its task asks for column {at}, and objects have keys"))),
    }
}

/// One row from its line; the last of `keys` is the label's.
fn row(line: &[u8], keys: &[&str], labels: &Labels, row: usize, place: &LinePosition) -> Result<Example> {
    if line.len() > LONGEST_LINE {
        let (expected, got) = (format!("a line of at most {LONGEST_LINE} bytes"), format!("one of {}", line.len()));
        return Err(place.error(expected, got, "Write one object a line"));
    }
    let text = place.utf8(line)?;
    if text.trim().is_empty() {
        return Err(place.error("a JSON object".into(), "an empty line".into(), "Remove the line"));
    }
    let mut values = fields(text, keys).map_err(|fault| match fault {
        Fault::NoObject(kind) => place.error("a JSON object".into(), kind, "Write one object a line"),
        Fault::Broken(detail) => place.error("a JSON object".into(), detail, GET_AGAIN),
        Fault::Missing { key, known } => place.error(format!("the key '{key}'"), listed(&known), &hint(&key, &known)),
    })?;
    let found = values.pop().unwrap_or_default();
    let text = keys.iter().zip(values).map(|(key, value)| match value {
        Value::String(text) => Ok(text),
        other => Err(place.error(format!("text as '{key}'"), kind(&other), CHECK_FILE)),
    });
    let text = text.collect::<Result<Vec<String>>>()?;
    let key = keys.last().copied().unwrap_or_default();
    let score = labels_text(labels, &found)
        .ok_or_else(|| place.error(format!("{} as '{key}'", wanted(labels)), kind(&found), CHECK_FILE))?;
    Ok(example(text, label(labels, &score, place)?, row))
}

/// Reason why the fields of a line cannot be had.
enum Fault {
    NoObject(String),
    Broken(String),
    Missing { key: String, known: Vec<String> },
}

/// The values of `keys` in the object on a line.
fn fields(line: &str, keys: &[&str]) -> std::result::Result<Vec<Value>, Fault> {
    let mut json = serde_json::Deserializer::from_str(line);
    let found = Fields { keys }.deserialize(&mut json).and_then(|found| json.end().map(|()| found));
    let (mut values, known) = match found {
        Ok(found) => found,
        Err(error) => {
            return Err(match serde_json::from_str::<Value>(line) {
                Ok(other) if !other.is_object() => Fault::NoObject(kind(&other)),
                _ => Fault::Broken(place_in_line(&error)),
            });
        }
    };
    match values.iter().position(Option::is_none) {
        Some(at) => Err(Fault::Missing { key: keys[at].to_string(), known }),
        None => Ok(values.iter_mut().filter_map(Option::take).collect()),
    }
}

/// The library's message with the column alone: it knows one line only.
fn place_in_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let detail = text.rsplit_once(" at line ").map_or(text.as_str(), |(detail, _)| detail);
    if error.column() == 0 { detail.to_string() } else { format!("{detail} (byte {})", error.column()) }
}

/// Takes the values of some keys, and notes every key.
struct Fields<'a> {
    keys: &'a [&'a str],
}

type Found = (Vec<Option<Value>>, Vec<String>);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Found, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Found;

    fn expecting(&self, out: &mut Formatter) -> Written {
        out.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> std::result::Result<Found, A::Error> {
        let mut values: Vec<Option<Value>> = self.keys.iter().map(|_| None).collect();
        let (mut seen, mut known) = (HashSet::new(), Vec::new());
        while let Some(name) = object.next_key::<String>()? {
            match self.keys.iter().position(|key| *key == name) {
                Some(at) => values[at] = Some(object.next_value()?),
                None => drop(object.next_value::<IgnoredAny>()?),
            }
            if seen.contains(&name) {
                return Err(A::Error::custom(format!("the key '{name}' twice")));
            }
            if known.len() < MOST_KEYS {
                known.push(name.clone());
            }
            seen.insert(name);
        }
        Ok((values, known))
    }
}

/// A label as a TSV file would hold it; `None` where its type cannot be one.
fn labels_text(labels: &Labels, value: &Value) -> Option<String> {
    match (labels, value) {
        (_, Value::Number(number)) => Some(number.to_string()),
        (Labels::Classes(_), Value::String(name)) => Some(name.clone()),
        // A truth value is the class of that name: whether true is the first or the second of two others cannot be known.
        (Labels::Classes(names), Value::Bool(truth)) => {
            let name = if *truth { "true" } else { "false" };
            names.iter().find(|class| class.eq_ignore_ascii_case(name)).map(|class| class.to_string())
        }
        _ => None,
    }
}

fn wanted(labels: &Labels) -> String {
    match labels {
        Labels::Classes(names) => expected_class(names),
        Labels::Score(low, high) => format!("a number from {low} to {high}"),
    }
}

/// A value in a message: its type, and itself where it is short.
fn kind(value: &Value) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() <= 40 => format!("the text '{text}'"),
        Value::String(_) => "a text".into(),
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
    }
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { "an object without keys".into() } else { format!("only {}", known.join(", ")) }
}

fn hint(key: &str, known: &[String]) -> String {
    match nearest(key, known.iter().map(String::as_str)) {
        Some(near) => format!("Is it '{near}'? {CHECK_FILE}"),
        None => CHECK_FILE.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::FileFormat;

    const CLASSES: Labels = Labels::Classes(&["False", "True"]);
    const SOURCE: Source = Source {
        format: FileFormat::Jsonl,
        repository: None,
        files: &["train.jsonl"],
        text: &[Column::Named("question"), Column::Named("passage")],
        label: Column::Named("label"),
    };

    fn read_as(labels: Labels, content: impl AsRef<[u8]>) -> std::result::Result<Vec<Example>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.jsonl");
        std::fs::write(&path, content).unwrap();
        let read = read(&labels, &SOURCE, &path).map(|read| read.examples);
        read.map_err(|error| error.to_string().replace(&dir.path().display().to_string(), "DIR"))
    }

    fn bad(content: impl AsRef<[u8]>) -> String {
        read_as(CLASSES, content).unwrap_err()
    }

    /// A good row, and then the given line.
    fn second(line: &str) -> String {
        bad(format!("{{\"question\": \"q\", \"passage\": \"p\", \"label\": true}}\n{line}\n"))
    }

    #[test]
    fn rows_are_read_as_they_stand() {
        let content = "\u{feff}{\"question\": \"is \\u00e9 \\\"a\\\" letter\", \"passage\": \" kept \\t\", \"idx\": [1, {}], \"label\": true}\r\n\
            {\"label\": \"False\", \"passage\": \"\", \"question\": \"q\"}\n{\"label\": 1, \"passage\": \"p\", \"question\": \"\"}";
        for end in ["", "\n", "\r\n\r\n", "\n\n\n"] {
            let rows = read_as(CLASSES, format!("{content}{end}")).unwrap();
            let texts: Vec<(&str, &str)> =
                rows.iter().map(|row| (row.first.as_str(), row.second.as_deref().unwrap())).collect();
            assert_eq!(texts, [("is é \"a\" letter", " kept \t"), ("q", ""), ("", "p")], "{end:?}");
            let numbers: Vec<(f64, usize)> = rows.iter().map(|row| (row.label, row.row)).collect();
            assert_eq!(numbers, [(1.0, 0), (0.0, 1), (1.0, 2)], "{end:?}");
        }
    }

    #[test]
    fn scores_are_numbers_within_their_bounds() {
        let line = |label: &str| format!("{{\"question\": \"q\", \"passage\": \"p\", \"label\": {label}}}");
        let scores = Labels::Score(0.0, 5.0);
        let label = |text: &str| read_as(scores, line(text)).map(|rows| rows[0].label);
        assert_eq!([label("4.57142857142857"), label("3"), label("5.0")], [Ok(4.571_429), Ok(3.0), Ok(5.0)]);
        insta::assert_snapshot!(label("5.5").unwrap_err(), @"DIR/train.jsonl, line 1: expected a score from 0 to 5, got '5.5'. Download the file again");
        insta::assert_snapshot!(label("\"4\"").unwrap_err(), @"DIR/train.jsonl, line 1: expected a number from 0 to 5 as 'label', got the text '4'. Check that it is this task's file");
        insta::assert_snapshot!(label("true").unwrap_err(), @"DIR/train.jsonl, line 1: expected a number from 0 to 5 as 'label', got true. Check that it is this task's file");
        insta::assert_snapshot!(label("1e999").unwrap_err(), @"DIR/train.jsonl, line 1: expected a JSON object, got number out of range (byte 48). Download the file again");
    }

    #[test]
    fn bad_lines_are_named() {
        insta::assert_snapshot!(bad(""), @"DIR/train.jsonl is not readable as JSONL: it is empty. Download the file again");
        insta::assert_snapshot!(bad("\u{feff}\n\r\n"), @"DIR/train.jsonl is not readable as JSONL: it is empty. Download the file again");
        insta::assert_snapshot!(bad(b"{\"question\": \"q\xff\"}\n"), @"DIR/train.jsonl, line 1: expected UTF-8 text, got byte 0xff at 15. Download the file again");
        insta::assert_snapshot!(bad("{}\n"), @"DIR/train.jsonl, line 1: expected the key 'question', got an object without keys. Check that it is this task's file");
        insta::assert_snapshot!(second(r#"{"question": "q", "passge": "p", "label": true}"#), @"DIR/train.jsonl, line 2: expected the key 'passage', got only question, passge, label. Is it 'passge'? Check that it is this task's file");
        insta::assert_snapshot!(second(r#"{"question": "q", "passage": "p", "idx": 4}"#), @"DIR/train.jsonl, line 2: expected the key 'label', got only question, passage, idx. Check that it is this task's file");
        insta::assert_snapshot!(second(r#"{"question": 4, "passage": "p", "label": true}"#), @"DIR/train.jsonl, line 2: expected text as 'question', got the number 4. Check that it is this task's file");
        insta::assert_snapshot!(second(r#"{"question": null, "passage": "p", "label": true}"#), @"DIR/train.jsonl, line 2: expected text as 'question', got null. Check that it is this task's file");
        insta::assert_snapshot!(second(r#"{"question": "q", "passage": ["p"], "label": true}"#), @"DIR/train.jsonl, line 2: expected text as 'passage', got a list. Check that it is this task's file");
        insta::assert_snapshot!(second(r#"{"question": "q", "passage": "p", "label": "Ture"}"#), @"DIR/train.jsonl, line 2: expected a label (False, True, or 0 to 1), got 'Ture'. Did you mean 'True'?");
        insta::assert_snapshot!(second(r#"{"question": "q", "passage": "p", "label": -1}"#), @"DIR/train.jsonl, line 2: expected a label (False, True, or 0 to 1), got '-1'. -1 hides the label: this is a test set, which cannot be scored");
        insta::assert_snapshot!(second(r#"{"question": "q", "passage": "p", "label": 2}"#), @"DIR/train.jsonl, line 2: expected a label (False, True, or 0 to 1), got '2'. Download the file again");
        insta::assert_snapshot!(second(r#"{"question": "q", "passage": "p", "label": 1.0}"#), @"DIR/train.jsonl, line 2: expected a label (False, True, or 0 to 1), got '1.0'. Download the file again");
        insta::assert_snapshot!(second(r#"{"question": "q", "passage": "p", "label": {"a": 1}}"#), @"DIR/train.jsonl, line 2: expected a label (False, True, or 0 to 1) as 'label', got an object. Check that it is this task's file");
        insta::assert_snapshot!(second(r#"{"question": "q", "question": "r", "passage": "p", "label": true}"#), @"DIR/train.jsonl, line 2: expected a JSON object, got the key 'question' twice (byte 33). Download the file again");
        insta::assert_snapshot!(second(r#"{"question": "q", "x": 1, "x": 1, "passage": "p", "label": true}"#), @"DIR/train.jsonl, line 2: expected a JSON object, got the key 'x' twice (byte 32). Download the file again");
        insta::assert_snapshot!(second(r#"{"question": "q", "passage": "p", "label": true} {}"#), @"DIR/train.jsonl, line 2: expected a JSON object, got trailing characters (byte 50). Download the file again");
        insta::assert_snapshot!(second(r#"{"question": "q", "passage": "p", "label": true},"#), @"DIR/train.jsonl, line 2: expected a JSON object, got trailing characters (byte 49). Download the file again");
        insta::assert_snapshot!(second(r#"{"question": "q", "passage": "p"#), @"DIR/train.jsonl, line 2: expected a JSON object, got EOF while parsing a string (byte 31). Download the file again");
        insta::assert_snapshot!(second(r#"{"question": "\ud800", "passage": "p", "label": true}"#), @"DIR/train.jsonl, line 2: expected a JSON object, got unexpected end of hex escape (byte 21). Download the file again");
        insta::assert_snapshot!(second(r#"["q", "p", true]"#), @"DIR/train.jsonl, line 2: expected a JSON object, got a list. Write one object a line");
        insta::assert_snapshot!(second("\n{}"), @"DIR/train.jsonl, line 2: expected a JSON object, got an empty line. Remove the line");
        insta::assert_snapshot!(second(&"[".repeat(100_000)), @"DIR/train.jsonl, line 2: expected a JSON object, got invalid type: sequence, expected a JSON object. Download the file again");
    }

    #[test]
    fn a_line_has_a_bound() {
        let long = format!("{{\"question\": \"{}\"}}", "x".repeat(LONGEST_LINE));
        insta::assert_snapshot!(bad(long), @"DIR/train.jsonl, line 1: expected a line of at most 16777216 bytes, got one of 16777232. Write one object a line");
    }

    #[test]
    fn a_truth_value_is_the_class_of_its_name() {
        let line = r#"{"question": "q", "passage": "p", "label": true}"#;
        let label = |names| read_as(Labels::Classes(names), line).map(|rows| rows[0].label);
        assert_eq!(label(&["true", "false"]), Ok(0.0));
        assert_eq!(label(&["unknown", "false", "TRUE"]), Ok(2.0));
        insta::assert_snapshot!(label(&["no", "yes"]).unwrap_err(), @"DIR/train.jsonl, line 1: expected a label (no, yes, or 0 to 1) as 'label', got true. Check that it is this task's file");
    }
}
