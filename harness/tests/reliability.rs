//! docs/reliability.md: every row names a test, and every test that is named is there.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn document() -> String {
    std::fs::read_to_string(root().join("docs/reliability.md")).unwrap()
}

/// A file that the document names: below `harness/tests` or `harness/src`, or by its path in the repository.
fn source(file: &str) -> String {
    let places = ["harness/tests", "harness/src", ""].map(|folder| root().join(folder).join(file));
    let place = places.iter().find(|place| place.is_file()).unwrap_or_else(|| panic!("there is no {file}"));
    std::fs::read_to_string(place).unwrap()
}

/// Tests that a text names, each with its file: `` `file.rs`: `one`, `another` ``.
fn named(text: &str) -> Vec<(String, String)> {
    let (mut found, mut file) = (Vec::new(), None);
    let mut between = "";
    for (at, part) in text.split('`').enumerate() {
        if at % 2 == 0 {
            between = part;
        } else if part.ends_with(".rs") {
            file = Some(part.to_string());
        } else if [":", ","].contains(&between.trim()) {
            found.extend(file.clone().map(|file| (file, part.to_string())));
        } else {
            file = None;
        }
    }
    found
}

/// Whether a file holds a test of this name.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    lines.iter().enumerate().any(|(at, line)| {
        line.starts_with(&head)
            && lines[..at].iter().rev().take_while(|line| line.starts_with("#[")).any(|line| *line == "#[test]")
    })
}

#[test]
fn every_test_that_the_document_names_is_there() {
    let names = named(&document());
    assert!(names.len() > 60, "{names:?}");
    let is_missing = |(file, name): &&(String, String)| !has_test(&source(file), name);
    let missing: Vec<_> = names.iter().filter(is_missing).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_row_names_a_test_or_says_that_it_has_none() {
    let document = document();
    let rows = document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| fault |"));
    let (mut count, mut without) = (0, Vec::new());
    for row in rows {
        count += 1;
        let cell = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        if named(cell).is_empty() && !cell.starts_with("the same") && !cell.starts_with("not tested: ") {
            without.push(row);
        }
    }
    assert!(count > 50 && without.is_empty(), "{count} rows, without a test: {without:#?}");
}

#[test]
fn a_name_without_a_test_does_not_pass() {
    let source = "#[test]\n#[ignore]\nfn one() {}\nfn two() {}\n";
    assert!(has_test(source, "one") && !has_test(source, "two") && !has_test(source, "on"));
    let named = named("| a `DONE` | `fsck` says | `one.rs`: `a`, `b` (with `x`); `two.rs`: `c` |");
    let names: Vec<String> = named.iter().map(|(file, name)| format!("{file} {name}")).collect();
    assert_eq!(names, ["one.rs a", "one.rs b", "two.rs c"]);
}
