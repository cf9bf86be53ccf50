//! The way from a name on the Hub to a run, with a local server in the Hub's place: DeBERTa's architecture, its
//! sentencepiece vocabulary and a checkpoint that `torch.save` wrote.

#[path = "../../datasets/tests/support/hub_server.rs"]
mod hub_server;
mod support;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use encoders::{Config, ENCODERS};
use hub_server::{COMMIT, Fault, HubServer};
use support::{World, failure, safetensors_bytes};
use tch::{Device, Kind};

const REPOSITORY: &str = "some/tiny-deberta";

fn fixture(path: &str) -> Vec<u8> {
    let fixtures: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    std::fs::read(fixtures.join(path)).unwrap()
}

/// The tiny DeBERTa with as many embeddings as the small vocabulary has pieces.
fn server() -> HubServer {
    let tiny = ENCODERS.iter().find(|entry| entry.model_type == "deberta-v2").unwrap().tiny;
    let tiny = tiny.replace(r#""vocab_size": 64"#, r#""vocab_size": 1504"#);
    let encoder =
        encoders::random(&Config::parse(&tiny, Path::new("tiny")).unwrap(), 1, Device::Cpu, Kind::Float).unwrap();
    let server = HubServer::start();
    server.put(REPOSITORY, "config.json", tiny);
    server.put(REPOSITORY, "spm.model", fixture("parity/e1_tokenizer_small_unigram/spm.model"));
    server.put(REPOSITORY, "model.safetensors", safetensors_bytes(&encoder.info().weights));
    server
}

fn run(world: &World, server: &HubServer, extra: &[&str]) -> Command {
    let mut command = world.run(&[&["--backbone", REPOSITORY, "--methods", "lora"], extra].concat());
    command.env("HF_ENDPOINT", &server.endpoint).env_remove("HF_HUB_OFFLINE");
    command
}

#[test]
fn a_backbone_is_fetched_trained_on_and_found_again() {
    let (world, server) = (World::new(), server());
    server.fail("model.safetensors", [Fault::Cut(2000)]);
    let assert = run(&world, &server, &[]).assert().success();
    let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(text.contains("fetching some/tiny-deberta/model.safetensors"), "{text}");
    assert!(world.path(&format!("hf/hub/models--some--tiny-deberta/snapshots/{COMMIT}/spm.model")).is_file());
    let runs: Vec<_> = std::fs::read_dir(world.path("out/runs")).unwrap().map(|run| run.unwrap().path()).collect();
    let spec = std::fs::read_to_string(runs[0].join("run.toml")).unwrap();
    assert!(spec.contains("name = \"tiny-deberta\"") && spec.contains("tokenizer = \"sentencepiece\""), "{spec}");
    let requests = server.request_count();
    let mut again = run(&world, &server, &["--tokenizer", "fast", "--out", "other"]);
    again.env("HF_HUB_OFFLINE", "1").assert().success();
    assert_eq!(server.request_count(), requests);
}

#[test]
fn what_the_hub_refuses_is_said() {
    let (world, server) = (World::new(), server());
    server.require("secret");
    let (code, text) = failure(&mut run(&world, &server, &[]));
    assert!(code == 3 && text.contains("HF_TOKEN"), "{code} {text}");
    run(&world, &server, &[]).env("HF_TOKEN", "secret").assert().success();
    let (code, text) = failure(&mut run(&world, &server, &["--tokenizer", "slow"]));
    assert!(code == 2 && text.contains("sentencepiece, fast"), "{code} {text}");
}
