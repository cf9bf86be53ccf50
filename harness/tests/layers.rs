//! Who may import whom. Crates and folders are the stages of the data's way (docs/design.md); inside a crate no import runs in
//! a circle, and a thing is imported from the module that defines it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A crate's folder, and those of our crates it may import.
const CRATES: &[(&str, &[&str])] = &[
    ("torch-ext", &[]),
    ("datasets", &[]),
    ("encoders", &["torch_ext"]),
    ("methods", &["encoders", "torch_ext"]),
    ("harness", &["datasets", "encoders", "methods", "torch_ext"]),
];

/// A folder of the harness: what it may import of the harness, and of the crates.
const FOLDERS: &[(&str, &[&str], &[&str])] = &[
    ("error", &[], &["datasets", "encoders", "methods", "torch_ext", "tch"]),
    ("env", &["error"], &["datasets", "torch_ext", "tch"]),
    ("plan", &["error"], &["datasets", "methods"]),
    ("store", &["error", "plan"], &["datasets", "methods"]),
    ("load", &["error", "env", "plan"], &["datasets", "encoders", "methods", "torch_ext", "tch"]),
    ("train", &["error", "env", "plan", "load", "store"], &["datasets", "encoders", "methods", "torch_ext", "tch"]),
    (
        "launch",
        &["error", "env", "plan", "load", "store", "train"],
        &["datasets", "encoders", "methods", "torch_ext", "tch"],
    ),
    ("analysis", &["error", "plan", "store"], &["datasets", "methods"]),
    ("report", &["error", "analysis", "store", "plan"], &["datasets", "methods"]),
    (
        "cli",
        &["error", "env", "plan", "store", "load", "train", "launch", "analysis", "report"],
        &["datasets", "encoders", "methods", "torch_ext", "tch"],
    ),
];

/// A module by its path below the crate, e.g. `train::run_stack`, with its text without comments and tests.
type Modules = BTreeMap<String, String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn modules(krate: &str) -> Modules {
    let src = root().join(krate).join("src");
    let mut found = Modules::new();
    let mut open = vec![src.clone()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                open.push(entry);
            } else if entry.extension().is_some_and(|ending| ending == "rs") {
                let path = entry.strip_prefix(&src).unwrap().with_extension("");
                let mut parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
                if ["mod", "lib", "main"].contains(parts.last().unwrap()) {
                    parts.pop();
                }
                let name = if entry.ends_with("main.rs") { "main".to_string() } else { parts.join("::") };
                found.insert(name, code(&std::fs::read_to_string(&entry).unwrap()));
            }
        }
    }
    found
}

/// The text without comments, and without its tests, which stand at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let text = text.split("#[cfg(test)]\npub mod ").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Every path that begins with `start` (`crate`, a crate's name), a group's members each.
fn paths(text: &str, start: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(&format!("{start}::")) {
        let before = text[..at].chars().next_back();
        if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' && c != '"') {
            members(&text[at + start.len() + 2..], "", &mut found);
        }
    }
    found
}

/// Adds the paths of a tree like `a::{b, c::d}` to `found`; gives the rest of the text.
fn members<'a>(text: &'a str, prefix: &str, found: &mut BTreeSet<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = members(rest, prefix, found).trim_start();
            match rest.strip_prefix(',') {
                Some(more) if !more.trim_start().starts_with('}') => rest = more,
                Some(more) => return more.trim_start().strip_prefix('}').unwrap_or(more),
                None => return rest.strip_prefix('}').unwrap_or(rest),
            }
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}::{name}") };
    match rest.strip_prefix("::") {
        Some(rest) if !rest.starts_with('<') => members(rest, &path, found),
        _ => {
            found.insert(path.trim_end_matches("::self").to_string());
            rest
        }
    }
}

/// The module a path lies in: the longest that is one.
fn module_of<'a>(path: &str, modules: &'a Modules) -> Option<&'a str> {
    let inside = |module: &str| path == module || path.strip_prefix(module).is_some_and(|rest| rest.starts_with("::"));
    let longest =
        modules.keys().filter(|module| !module.is_empty() && inside(module)).max_by_key(|module| module.len());
    longest.map(String::as_str)
}

fn imports(modules: &Modules) -> BTreeMap<&str, BTreeSet<&str>> {
    let of = |(name, text): (&'_ String, &String)| {
        let children = paths(text, "self").into_iter().map(|path| format!("{name}::{path}"));
        let found: BTreeSet<String> = paths(text, "crate").into_iter().chain(children).collect();
        found.iter().filter_map(|path| module_of(path, modules)).filter(|to| to != name).collect::<BTreeSet<_>>()
    };
    modules.iter().map(|(name, text)| (name.as_str(), of((name, text)))).collect()
}

#[test]
fn crates_import_in_one_direction() {
    let ours = ["datasets", "encoders", "methods", "torch_ext", "harness"];
    for (krate, allowed) in CRATES {
        for (module, text) in modules(krate) {
            for other in ours.iter().filter(|other| **other != krate.replace('-', "_") && !allowed.contains(other)) {
                let found = paths(&text, other);
                assert!(found.is_empty(), "{krate}: {module} imports {other}, which it may not: {found:?}");
            }
        }
    }
}

#[test]
fn no_imports_in_a_circle() {
    let mut found = BTreeSet::new();
    for (krate, _) in CRATES {
        let modules = modules(krate);
        let mut open = imports(&modules);
        // A module that imports nothing that is left, or is imported by nothing that is left, is in no circle.
        loop {
            let used: BTreeSet<&str> = open.values().flatten().copied().collect();
            let is_free = |(name, to): &(&&str, &BTreeSet<&str>)| to.is_empty() || !used.contains(**name);
            let free: Vec<&str> = open.iter().filter(is_free).map(|(name, _)| *name).collect();
            if free.is_empty() {
                break;
            }
            open.retain(|name, _| !free.contains(name));
            open.values_mut().for_each(|to| to.retain(|to| !free.contains(to)));
        }
        found.extend(open.keys().map(|name| (krate.to_string(), name.to_string())));
    }
    assert!(found.is_empty(), "in a circle: {found:?}");
}

#[test]
fn things_are_imported_from_where_they_are_defined() {
    for (krate, _) in CRATES {
        let modules = modules(krate);
        for (module, text) in modules.iter().filter(|(name, _)| !name.is_empty() && *name != "main") {
            let found: Vec<String> =
                paths(text, "crate").into_iter().filter(|path| module_of(path, &modules).is_none()).collect();
            assert!(found.is_empty(), "{krate}: {module} imports the root's re-exports: {found:?}");
            assert!(paths(text, "super").is_empty(), "{krate}: {module} imports by super: {:?}", paths(text, "super"));
        }
    }
}

#[test]
fn folders_of_the_harness_import_what_comes_before_them() {
    let modules = modules("harness");
    let folder = |module: &str| module.split("::").next().unwrap_or_default().to_string();
    let mut offenders = BTreeSet::new();
    for (from, to) in imports(&modules) {
        let Some((_, allowed, _)) = FOLDERS.iter().find(|(name, ..)| *name == folder(from)) else { continue };
        for to in to {
            let target = folder(to);
            if target != folder(from) && !allowed.contains(&target.as_str()) {
                offenders.insert((from.to_string(), to.to_string()));
            }
        }
    }
    for (from, text) in &modules {
        let Some((name, _, crates)) = FOLDERS.iter().find(|(name, ..)| *name == folder(from)) else {
            assert!(["", "main"].contains(&from.as_str()), "{from} is in no folder of the layout");
            continue;
        };
        for other in ["datasets", "encoders", "methods", "torch_ext", "tch"] {
            if !crates.contains(&other) && !paths(text, other).is_empty() {
                offenders.insert((from.clone(), format!("{other} (from {name})")));
            }
        }
    }
    let offenders: Vec<String> = offenders.iter().map(|(from, to)| format!("{from} -> {to}")).collect();
    assert!(offenders.is_empty(), "imports that the layout forbids:\n{}", offenders.join("\n"));
}

/// The parser sees what it must see.
#[test]
fn groups_and_nested_paths_are_read() {
    let text = "use crate::a::{b, c::{D, self}, e::F};\nlet x = crate::g::h::<T>(1); use notcrate::z;";
    let found: Vec<String> = paths(text, "crate").into_iter().collect();
    assert_eq!(found, ["a::b", "a::c", "a::c::D", "a::e::F", "g::h"]);
}
