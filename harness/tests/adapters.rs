//! `export`, `import`, `merge` and `tokenize` through the binary.

mod support;

use std::path::PathBuf;

use support::{World, failure};

/// A finished run of a method on the tiny backbone.
fn run(world: &World, method: &str) -> PathBuf {
    world.run(&["--methods", method]).assert().success();
    let mut runs = std::fs::read_dir(world.path("out/runs")).unwrap().map(|run| run.unwrap().path());
    let found = runs.find(|run| run.file_name().unwrap().to_string_lossy().contains(method));
    found.unwrap().strip_prefix(world.dir.path()).unwrap().to_path_buf()
}

fn said(world: &World, arguments: &[&str]) -> String {
    let assert = world.rankbench(arguments).assert().success();
    String::from_utf8_lossy(&assert.get_output().stdout).into_owned()
}

const DATA: [&str; 6] = ["--task", "sst2", "--glue", "glue", "--allow-unlocked", "--device=cpu"];

fn import(world: &World, backbone: &str, adapter: &str) -> Vec<String> {
    let out = ["--out", "logits.csv"];
    said(world, &[&["import", "--backbone", backbone, "--adapter", adapter][..], &DATA, &out].concat());
    world.read("logits.csv").lines().map(|line| line.rsplit(',').next().unwrap().to_string()).collect()
}

#[test]
fn an_adapter_goes_out_and_comes_back() {
    let world = World::new();
    let run = run(&world, "sora");
    let (run, adapter) = (run.to_str().unwrap(), format!("{}/adapter", run.to_str().unwrap()));
    let text = said(&world, &["export", "--run", run, "--out", "exported", "--base-model", "some/name"]);
    assert!(text.contains("LORA adapter for \"some/name\""), "{text}");
    assert!(world.read("exported/adapter_config.json").contains("some/name"));
    let own = import(&world, "tiny", &adapter);
    assert_eq!(own.len(), 17, "a head and 16 rows");
    assert_eq!(import(&world, "tiny", "exported"), own);
    said(&world, &["merge", "--backbone", "tiny", "--adapter", &adapter, "--out", "merged"]);
    let config = world.read("merged/config.json");
    assert!(config.contains("BertForSequenceClassification") && config.contains("LABEL_1"), "{config}");
    let (code, text) =
        failure(&mut world.rankbench(&["merge", "--backbone", "tiny", "--adapter", &adapter, "--out", "tiny"]));
    assert!(code == 2 && text.contains("backbone itself"), "{code} {text}");
}

#[test]
fn adapters_that_do_not_belong_are_refused() {
    let world = World::new();
    let run = run(&world, "lora");
    let adapter = format!("{}/adapter", run.to_str().unwrap());
    let refused = |part: &str| {
        let arguments = [&["import", "--backbone", "tiny", "--adapter", &adapter][..], &DATA].concat();
        let (code, text) = failure(&mut world.rankbench(&arguments));
        assert!(code == 3 && text.contains(part), "{code} {text}");
    };
    let config = world.read(&format!("{adapter}/adapter_config.json"));
    let set = |from: &str, to: &str| {
        assert!(config.contains(from), "{config}");
        world.write(&format!("{adapter}/adapter_config.json"), config.replace(from, to));
    };
    set(r#""bias": "none""#, r#""bias": "all""#);
    refused("bias is");
    set(r#""init_lora_weights": true"#, r#""init_lora_weights": "pissa""#);
    refused("pissa");
    set(r#""alpha_pattern": {"#, r#""alpha_pattern": {"layer\\.0.*": 3.0, "#);
    refused("regular expression");
    set(r#""peft_type": "LORA""#, r#""peft_type": "IA3""#);
    refused("peft_type is IA3");
    world.write(&format!("{adapter}/adapter_config.json"), &config);
    let tiny = world.read("tiny/config.json");
    world.write("tiny/config.json", tiny.replace(r#""num_hidden_layers": 2"#, r#""num_hidden_layers": 1"#));
    let encoder_of_one = failure(&mut world.rankbench(&["doctor", "--backbone", "tiny"]));
    assert!(encoder_of_one.0 == 3 && encoder_of_one.1.contains("surplus"), "{encoder_of_one:?}");
}

#[test]
fn a_run_that_is_not_finished_has_nothing_to_export() {
    let world = World::new();
    std::fs::create_dir_all(world.path("out/runs/x")).unwrap();
    let (code, text) = failure(&mut world.rankbench(&["export", "--run", "out/runs/x", "--out", "o"]));
    assert!(code == 3 && text.contains("no DONE"), "{code} {text}");
}

#[test]
fn rows_are_written_with_their_ids() {
    let world = World::new();
    let flags = ["--backbone", "tiny", "--tasks", "sst2", "--glue", "glue", "--allow-unlocked", "--out", "ids.jsonl"];
    let text = said(&world, &[&["tokenize"][..], &flags].concat());
    assert!(text.contains("64 rows") && text.contains("fast"), "{text}");
    let rows = world.read("ids.jsonl");
    assert_eq!(rows.lines().count(), 64);
    let first: serde_json::Value = serde_json::from_str(rows.lines().next().unwrap()).unwrap();
    assert!(first["ids"].as_array().unwrap().len() > 2 && first["set"] == "train", "{first}");
}
