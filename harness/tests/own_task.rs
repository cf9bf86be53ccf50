//! A task of one's own from a TOML file, by the binary: the example of docs/own_task.md as it stands, and what sets such a task
//! apart from others.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use support::{World, failure};

/// Every fenced block that follows a line "`name`:", and the first block of a shell.
fn example() -> (BTreeMap<String, String>, Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/own_task.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (mut files, mut command) = (BTreeMap::new(), Vec::new());
    let blocks: Vec<&str> = text.split("```").collect();
    for pair in blocks.chunks_exact(2) {
        let (before, (language, content)) = (pair[0], pair[1].split_once('\n').unwrap());
        let name = before.trim_end().lines().last().and_then(|line| line.strip_prefix('`')?.strip_suffix("`:"));
        match (name, language) {
            (Some(name), _) => drop(files.insert(name.to_string(), content.to_string())),
            (None, "sh") => {
                command = content.replace("\\\n", " ").split_whitespace().map(str::to_string).collect();
            }
            _ => {}
        }
    }
    (files, command)
}

/// A world with the example's files below `dir`, and its command for the tiny backbone.
fn world(dir: &str) -> (World, Vec<String>) {
    let world = World::new();
    let (files, command) = example();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["data/dev.jsonl", "data/train.jsonl", "headlines.toml"]);
    for (name, content) in files {
        world.write(&format!("{dir}{name}"), content);
    }
    let command = command.iter().skip(1).map(|word| match word.as_str() {
        "all-MiniLM-L6-v2" => "tiny".to_string(),
        "headlines.toml" => format!("{dir}headlines.toml"),
        other => other.to_string(),
    });
    let command = command.collect();
    (world, command)
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

/// Ids of the runs that a command would make.
fn planned(world: &World, command: &[String]) -> Vec<String> {
    let output = world.rankbench(&[&words(command)[..], &["--dry-run=toml"]].concat()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("# ")).map(str::to_string).collect()
}

#[test]
fn the_documented_example_ends_with_its_table() {
    let (world, command) = world("");
    let output = world.rankbench(&words(&command)).output().unwrap();
    let (text, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{told}");
    let header = text.lines().find(|line| line.contains("Method")).unwrap_or_else(|| panic!("no table:\n{text}"));
    assert!(header.contains("Headlines") && !header.contains("CoLA"), "{header}");
    for method in ["LoRA", "SoRA"] {
        let row = text.lines().find(|line| line.trim_start().starts_with(method));
        assert!(row.is_some_and(|row| row.chars().any(|c| c.is_ascii_digit())), "no row of {method}:\n{text}");
    }
    assert!(text.contains("own data ") && !text.contains("published:"), "{text}");
    // The report is written again, with the file and without it.
    let report = ["report", "--out", "results/headlines"];
    let with = world.rankbench(&[&report[..], &["--task-file", "headlines.toml"]].concat()).output().unwrap();
    let with = String::from_utf8_lossy(&with.stdout).into_owned();
    let without = world.rankbench(&report).output().unwrap();
    let without = String::from_utf8_lossy(&without.stdout).into_owned();
    assert!(with.contains("Headlines") && without.contains("headlines"), "{with}{without}");
    assert_eq!(with.replace("Headlines", "headlines"), without, "a title is all that the file adds");
    let fsck = world.rankbench(&["fsck", "--out", "results/headlines"]).output().unwrap();
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stdout));
    let runs = std::fs::read_dir(world.path("results/headlines/runs")).unwrap();
    let run = runs.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let manifest = std::fs::read_to_string(run.join("manifest.json")).unwrap();
    for file in ["headlines.toml", "data/train.jsonl", "data/dev.jsonl"] {
        assert!(manifest.contains(file), "{file}: {manifest}");
    }
}

/// The same files elsewhere are the same runs; a change in any of them makes others.
#[test]
fn what_the_files_hold_is_what_a_run_is_known_by() {
    let (here, command) = world("");
    let ids = planned(&here, &command);
    assert_eq!(ids.len(), 2);
    let (there, moved) = world("some/where/");
    assert_eq!(planned(&there, &moved), ids);
    let toml = here.read("headlines.toml");
    for (file, from, to) in [
        ("headlines.toml", "max_length = 64", "max_length = 48"),
        ("headlines.toml", "title = \"Headlines\"", "title = \"Others\""),
        ("data/train.jsonl", "a good film", "a good plot"),
        ("data/dev.jsonl", "the plot is bad\", \"fits\": true", "the plot is bad\", \"fits\": false"),
    ] {
        let before = here.read(file);
        assert!(before.contains(from), "{file}: {from}");
        here.write(file, before.replacen(from, to, 1));
        let other = planned(&here, &command);
        assert!(other.len() == 2 && other.iter().all(|id| !ids.contains(id)), "{file}: {other:?}");
        here.write(file, before);
    }
    assert_eq!((planned(&here, &command), here.read("headlines.toml")), (ids, toml));
}

/// Two tasks of one name in one directory of results are two tables.
#[test]
fn tasks_of_one_name_share_no_table() {
    let (world, command) = world("");
    let run = |world: &World| {
        let output = world.rankbench(&words(&command)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run(&world);
    world.write("data/train.jsonl", world.read("data/train.jsonl").replacen("a good film", "a good plot", 1));
    run(&world);
    let report = world.rankbench(&["report", "--out", "results/headlines"]).output().unwrap();
    let text = String::from_utf8_lossy(&report.stdout).into_owned();
    let titles: Vec<&str> = text.lines().filter(|line| line.contains("Table 1: own data ")).collect();
    assert!(titles.len() == 2 && titles[0] != titles[1], "{text}");
}

#[test]
fn built_in_tasks_stand_beside_it_and_keep_their_own_table() {
    let (world, _) = world("");
    let both = ["--task-file", "headlines.toml", "--tasks", "headlines,sst2", "--methods", "lora", "--epochs", "1"];
    let output = world.run(&both).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Table 1: own data ") && text.contains("Table 1: GLUE in files"), "{text}");
    let out =
        world.rankbench(&["tokenize", "--task-file", "headlines.toml", "--tasks", "headlines", "--backbone", "tiny"]);
    let mut out = out;
    out.args(["--out", "rows.jsonl"]).assert().success();
    assert_eq!(world.read("rows.jsonl").lines().count(), 12);
}

#[test]
fn slips_are_usage_errors() {
    let (world, command) = world("");
    let unknown = |words: &[&str]| failure(&mut world.rankbench(words));
    let (code, text) =
        unknown(&words(&command).iter().map(|w| if *w == "headlines" { "headline" } else { w }).collect::<Vec<_>>());
    assert!(code == 2 && text.contains("did you mean 'headlines'?"), "{code} {text}");
    world.write("headlines.toml", world.read("headlines.toml").replace("metrics", "metrcs"));
    let (code, text) = unknown(&words(&command));
    assert!(code == 2 && text.contains("unknown key 'metrcs' (did you mean 'metrics'?)"), "{code} {text}");
    let (code, text) =
        unknown(&["run", "table1", "--micro", "--tasks", "boolq", "--backbone", "tiny", "--device", "cpu"]);
    assert!(code == 2 && text.contains("task boolq has no synthetic rows"), "{code} {text}");
}
