//! Tokenizers, data and directories as the world has them, tried with the binary itself. Each test is a fault that people
//! reported against some tool; the inputs are made here.

mod support;

use std::path::Path;

use encoders::{Config, ENCODERS};
use support::{World, failure, safetensors_bytes};
use tch::{Device, Kind};

/// Ids of the training rows that `tokenize` writes.
fn ids(world: &World, backbone: &str, extra: &[&str]) -> Vec<String> {
    let fixed = ["tokenize", "--backbone", backbone, "--tasks", "sst2", "--glue", "text", "--allow-unlocked"];
    world.rankbench(&[&fixed[..], &["--out", "ids.jsonl"], extra].concat()).assert().success();
    let text = world.read("ids.jsonl");
    text.lines()
        .filter(|line| line.contains("\"train\""))
        .map(|line| line.split("\"ids\":").nth(1).unwrap().into())
        .collect()
}

fn text(world: &World, row: &str) {
    for set in ["train", "dev"] {
        world.write(&format!("text/SST-2/{set}.tsv"), format!("sentence\tlabel\n{row}\t1\n"));
    }
}

fn copy(world: &World, from: &str, to: &str) {
    std::fs::create_dir_all(world.path(to)).unwrap();
    for entry in std::fs::read_dir(world.path(from)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, world.path(to).join(path.file_name().unwrap())).unwrap();
    }
}

/// A finished run's adapter, in `adapter`.
fn adapter(world: &World) {
    world.run(&["--methods", "lora", "--epochs", "1"]).assert().success();
    let run = std::fs::read_dir(world.path("out/runs")).unwrap().next().unwrap().unwrap().path();
    copy(world, &format!("{}/adapter", run.strip_prefix(world.dir.path()).unwrap().display()), "adapter");
}

/// A merge leaves nothing of an earlier one, and takes added tokens along.
#[test]
fn a_merged_directory_tokenises_as_its_backbone() {
    let world = World::new();
    adapter(&world);
    text(&world, "Good <e1> film");
    copy(&world, "tiny", "first");
    world.write("first/added_tokens.json", r#"{"<e1>": 17}"#);
    world.write("first/special_tokens_map.json", r#"{"additional_special_tokens": ["film"]}"#);
    copy(&world, "tiny", "second");
    world.write("second/tokenizer_config.json", r#"{"do_lower_case": false}"#);
    for backbone in ["first", "second", "first"] {
        world
            .rankbench(&["merge", "--backbone", backbone, "--adapter", "adapter", "--out", "merged"])
            .assert()
            .success();
        assert_eq!(ids(&world, "merged", &[]), ids(&world, backbone, &[]), "{backbone}");
    }
    assert_ne!(ids(&world, "first", &[]), ids(&world, "second", &[]));
    world.write("merged/pytorch_model.bin", "another program's");
    let (code, text) =
        failure(&mut world.rankbench(&["merge", "--backbone", "second", "--adapter", "adapter", "--out", "merged"]));
    assert!(code == 2 && text.contains("pytorch_model.bin"), "{code} {text}");
}

/// A directory of the same last name is not the repository.
#[test]
fn a_repository_is_its_owners() {
    let world = World::new();
    copy(&world, "tiny", "home/.cache/backbones/tiny");
    world.write("home/recipes/empty", "");
    let doctor = |name: &str| {
        let mut command = world.rankbench(&["doctor", "--backbone", name]);
        command.env("RANKBENCH_HOME", world.path("home"));
        command
    };
    std::fs::rename(world.path("tiny"), world.path("elsewhere")).unwrap();
    doctor("tiny").assert().success();
    let (code, text) = failure(&mut doctor("acme/tiny"));
    assert!(code == 3 && text.contains("acme/tiny") && text.contains("HF_HUB_OFFLINE"), "{code} {text}");
    world.write("home/.cache/backbones/tiny.repository", "acme/tiny\n");
    doctor("acme/tiny").assert().success();
    assert_eq!(failure(&mut doctor("evil/tiny")).0, 3);
    assert_eq!(failure(&mut doctor("evil/../../x")).0, 3);
}

/// The flag asks for something that there is not.
#[test]
fn a_reading_that_cannot_be_had_is_an_error() {
    let world = World::new();
    text(&world, "good");
    let arguments =
        ["tokenize", "--backbone", "tiny", "--tasks", "sst2", "--glue", "text", "--allow-unlocked", "--out", "x"];
    let asked = [&arguments[..], &["--tokenizer", "sentencepiece"]].concat();
    let (code, said) = failure(&mut world.rankbench(&asked));
    assert!(code == 2 && said.contains("spm.model"), "{code} {said}");
    world.rankbench(&[&arguments[..], &["--tokenizer", "fast"]].concat()).assert().success();
    let (code, said) = failure(&mut world.run(&["--tokenizer", "sentencepiece"]));
    assert!(code == 2 && said.contains("spm.model"), "{code} {said}");
}

#[test]
fn data_that_is_not_there_is_an_error_in_every_command() {
    let world = World::new();
    let tokenize = ["tokenize", "--backbone", "tiny", "--tasks", "sst2", "--glue", "nowhere", "--out", "x"];
    let import = ["import", "--backbone", "tiny", "--adapter", "adapter", "--task", "sst2", "--glue", "nowhere"];
    adapter(&world);
    for arguments in [&tokenize[..], &import[..]] {
        let (code, text) = failure(&mut world.rankbench(arguments));
        assert!(code == 3 && text.contains("nowhere"), "{code} {text}");
    }
    assert!(!world.path("x").exists());
}

#[test]
fn import_needs_the_sets_it_scores() {
    let world = World::new();
    adapter(&world);
    std::fs::remove_file(world.path("glue/SST-2/train.tsv")).unwrap();
    let fixed = ["import", "--backbone", "tiny", "--adapter", "adapter", "--task", "sst2", "--glue", "glue"];
    let assert = world.rankbench(&[&fixed[..], &["--allow-unlocked", "--device", "cpu"]].concat()).assert().success();
    let text = String::from_utf8_lossy(&assert.get_output().stdout).into_owned();
    assert!(text.contains("SST-2, development set: accuracy"), "{text}");
}

/// Said before a run is begun, as input that cannot be used.
fn refused(world: &World, extra: &[&str], parts: &[&str]) {
    let (code, text) = failure(&mut world.run(extra));
    assert_eq!(code, 3, "{text}");
    parts.iter().for_each(|part| assert!(text.contains(part), "'{part}' is not in: {text}"));
    assert!(!world.path("out/runs").exists());
}

#[test]
fn ids_and_segments_without_an_embedding_are_refused() {
    let world = World::new();
    let vocabulary = world.read("tiny/vocab.txt");
    world.write("tiny/vocab.txt", (0..100).fold(vocabulary.clone(), |text, id| format!("{text}new{id}\n")));
    refused(&world, &[], &["vocab.txt", "the id 116", "64 embeddings"]);
    world.write("tiny/vocab.txt", vocabulary);
    let tiny = ENCODERS.iter().find(|entry| entry.model_type == "bert").unwrap().tiny;
    let tiny = tiny.replace(r#""type_vocab_size": 2"#, r#""type_vocab_size": 1"#);
    let encoder =
        encoders::random(&Config::parse(&tiny, Path::new("tiny")).unwrap(), 1, Device::Cpu, Kind::Float).unwrap();
    world.write("tiny/config.json", tiny);
    world.write("tiny/model.safetensors", safetensors_bytes(&encoder.info().weights));
    refused(&world, &["--tasks", "rte"], &["2 segments", "1 segment embedding"]);
    world.run(&["--methods", "lora", "--epochs", "1"]).assert().success();
}

#[test]
fn a_split_with_an_empty_set_is_refused() {
    let world = World::new();
    world.write("glue/SST-2/train.tsv", support::sst2(3));
    let recipe = world.recipe("");
    let text = std::fs::read_to_string(&recipe).unwrap().replace(r#"split = "official""#, r#"split = "sora""#);
    std::fs::write(&recipe, text).unwrap();
    let fixed =
        ["run", "--recipe", "tiny.toml", "--glue", "glue", "--allow-unlocked", "--out", "out", "--device", "cpu"];
    let (code, text) = failure(&mut world.rankbench(&fixed));
    assert!(code == 3 && text.contains("validation set empty"), "{code} {text}");
}

/// Its reader gives up in a panic.
#[test]
fn a_damaged_file_is_named() {
    let world = World::new();
    text(&world, "good");
    world.write("tiny/tokenizer.json", r#"{"version": "1.0", "model": {"type": "Unigram", "vocab": [], "unk_id": 9}}"#);
    let arguments =
        ["tokenize", "--backbone", "tiny", "--tasks", "sst2", "--glue", "text", "--allow-unlocked", "--out", "x"];
    let (code, said) = failure(&mut world.rankbench(&arguments));
    assert!(code == 3 && said.contains("tokenizer.json"), "{code} {said}");
}
