//! No golden case may lie there unnoticed, neither the project's own nor those of `PARITY_FIXTURES`.

mod support;

use std::path::Path;

use support::case::fixtures;

/// Text of every test of the workspace.
fn tests() -> Vec<String> {
    let members = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
    let files =
        members.flat_map(|member| std::fs::read_dir(member.unwrap().path().join("tests")).into_iter().flatten());
    let files = files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "rs"));
    files.map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// Whether a line of code asks for the cases of a class, by its quoted letter and digit: in a call, or in a list of classes that are
/// gone through. A comment or another text with these letters runs nothing.
fn runs(text: &str, class: &str) -> bool {
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let asks = |line: &&str| ["cases(", "parity(", "for class in ["].iter().any(|call| line.contains(call));
    code.filter(asks).any(|line| line.contains(&format!("\"{class}\"")))
}

#[test]
fn a_word_in_a_comment_is_no_claim() {
    assert!(runs("for case in cases(\"c1\") {", "c1") && runs("for class in [\"d2\", \"d3\"] {", "d3"));
    assert!(!runs("// cases(\"c1\") were once run here", "c1") && !runs("let name = \"c1\";", "c1"));
}

#[test]
fn every_folder_of_cases_is_run_by_a_test() {
    let tests = tests();
    let folders = std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap()).filter(|e| e.path().is_dir());
    let unclaimed: Vec<String> = folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            let class: String = name.chars().take(2).collect();
            !tests.iter().any(|text| runs(text, &class))
        })
        .collect();
    assert!(unclaimed.is_empty(), "no test runs {unclaimed:?}: add a test, or remove the folder");
}
