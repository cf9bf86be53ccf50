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

#[test]
fn every_folder_of_cases_is_run_by_a_test() {
    let tests = tests();
    let folders = std::fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap()).filter(|e| e.path().is_dir());
    let unclaimed: Vec<String> = folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| {
            // A test runs a class of cases by its quoted letter and digit.
            let class = format!("\"{}\"", name.chars().take(2).collect::<String>());
            !tests.iter().any(|text| text.contains(&class))
        })
        .collect();
    assert!(unclaimed.is_empty(), "no test runs {unclaimed:?}: add a test, or remove the folder");
}
