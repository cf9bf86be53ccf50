//! Every registered architecture through the binary: train alone and stacked, export, import, merge, and load the
//! merged model. Each has a tiny random checkpoint on disk with a tokenizer in `tokenizer.json`; a new entry of the
//! registry is picked up by itself.

mod support;

use std::path::Path;

use encoders::encoder::EncoderEntry;
use encoders::{Attach, Config, ENCODERS, Encoder, Frozen, Pass, TensorFile, TokenBatch};
use methods::registry::read_adapter;
use serde_json::{Value, json};
use support::{WORDS, World, safetensors_bytes};
use tch::{Device, Kind, Tensor};

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
/// Two ways to the same sum, in float32.
const ROUNDING: f64 = 1e-5;

/// Words in the form that `PreTrainedTokenizerFast` saves.
fn tokenizer() -> Value {
    let added = SPECIAL.iter().enumerate().map(|(id, content)| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true})
    });
    let vocab = SPECIAL.iter().chain(&WORDS).enumerate().map(|(id, word)| (word.to_string(), json!(id)));
    let special = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
    let sequence = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let single = [special("[CLS]"), sequence("A"), special("[SEP]")];
    let pair = [&single[..], &[sequence("B"), special("[SEP]")]].concat();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": {
            "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
            "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "model": {"type": "WordLevel", "vocab": vocab.collect::<serde_json::Map<_, _>>(), "unk_token": "[UNK]"}
    })
}

/// A world whose backbone is of an architecture.
fn world(entry: &EncoderEntry) -> World {
    let world = World::new();
    std::fs::remove_file(world.path("tiny/vocab.txt")).unwrap();
    world.write("tiny/config.json", entry.tiny);
    let config = Config::parse(entry.tiny, Path::new("tiny")).unwrap();
    let encoder = encoders::random(&config, 1, Device::Cpu, Kind::Float).unwrap();
    world.write("tiny/model.safetensors", safetensors_bytes(&encoder.info().weights));
    world.write("tiny/tokenizer.json", tokenizer().to_string());
    let options = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": ["input_ids", "attention_mask"],
        "pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]",
        "model_max_length": 16, "clean_up_tokenization_spaces": true});
    world.write("tiny/tokenizer_config.json", options.to_string());
    // 48 rows in two steps.
    let recipe = world.read(world.recipe("").to_str().unwrap()).replace("epochs = 2", "epochs = 1");
    world.write("tiny.toml", recipe.replace("batch_size = 8", "batch_size = 24"));
    world
}

fn load(world: &World, name: &str) -> Box<dyn Encoder> {
    encoders::load(&world.path(name), Device::Cpu, Kind::Float).unwrap()
}

/// Logits of a few rows, one of them padded, by the head whose tensors `named` gives.
fn logits(encoder: &dyn Encoder, attach: &dyn Attach, named: impl Fn(&str) -> Tensor) -> Tensor {
    let ids = Tensor::from_slice(&[2i64, 5, 9, 7, 3, 2, 6, 8, 3, 0]).view([2, 5]);
    let mask = Tensor::from_slice(&[1i64, 1, 1, 1, 1, 1, 1, 1, 1, 0]).view([2, 5]);
    let batch =
        TokenBatch { token_type_ids: ids.zeros_like(), input_ids: ids, attention_mask: mask, token_capacity: None };
    let head: Vec<Tensor> = encoder.new_head(2, 0).params.iter().map(|param| named(&param.name)).collect();
    let pass = Pass { attach, dropout: None };
    encoder.logits(&encoder.last_hidden_state(&batch, pass), &batch, &head, pass)
}

fn error(got: &Tensor, want: &Tensor) -> f64 {
    (got - want).abs().max().double_value(&[])
}

/// Names of the runs.
fn names(world: &World) -> Vec<String> {
    let runs = std::fs::read_dir(world.path("out/runs")).unwrap();
    runs.map(|run| run.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Task loss of the only epoch.
fn task_loss(world: &World, file: &str) -> f64 {
    let text = world.read(file);
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let at = lines.next().unwrap().iter().position(|name| *name == "task_loss").unwrap();
    lines.next().unwrap()[at].parse().unwrap()
}

fn exported_config(world: &World) -> Value {
    serde_json::from_str(&world.read("exported/adapter_config.json")).unwrap()
}

/// Paths of the modules that have a branch.
fn adapted(encoder: &dyn Encoder, attach: &dyn Attach) -> Vec<String> {
    let modules = encoder.info().target_modules.iter();
    modules.filter(|module| attach.low_rank(module).is_some()).map(|module| module.path.clone()).collect()
}

fn goes_all_the_way(entry: &EncoderEntry) {
    let (world, title) = (world(entry), entry.model_type);
    let lora = ["--methods", "lora", "--seeds", "0,1"];
    world.run(&lora).assert().success();
    world.run(&[&lora[..], &["--together", "2", "--out", "both"]].concat()).assert().success();
    for name in names(&world) {
        let [alone, stacked] = ["out", "both"].map(|out| task_loss(&world, &format!("{out}/runs/{name}/epochs.csv")));
        assert!((alone - stacked).abs() < ROUNDING, "{title}: {name}: {alone}, stacked {stacked}");
        let manifest = world.read(&format!("both/runs/{name}/manifest.json"));
        assert!(manifest.contains("\"together\": 2"), "{title}: {manifest}");
    }
    let run = format!("out/runs/{}", names(&world)[0]);
    world.rankbench(&["export", "--run", &run, "--out", "exported"]).assert().success();
    let data = ["--task", "sst2", "--glue", "glue", "--allow-unlocked", "--device=cpu"];
    let import = ["import", "--backbone", "tiny", "--adapter", "exported", "--out", "logits.csv"];
    world.rankbench(&[&import[..], &data].concat()).assert().success();
    assert_eq!(world.read("logits.csv").lines().count(), 17, "{title}: a head and 16 rows");
    world.rankbench(&["merge", "--backbone", "tiny", "--adapter", "exported", "--out", "merged"]).assert().success();
    let config: Value = serde_json::from_str(&world.read("merged/config.json")).unwrap();
    assert_eq!(config["architectures"], json!([entry.architecture]), "{title}");

    let (base, merged) = (load(&world, "tiny"), load(&world, "merged"));
    let adapter = read_adapter(&world.path("exported"), base.as_ref()).unwrap();
    let attached = adapter.attach(base.as_ref()).unwrap();
    let saved = exported_config(&world)["modules_to_save"].clone();
    for param in base.new_head(2, 0).params {
        let is_below = |module: &Value| param.name.split('.').any(|part| module == part);
        assert!(saved.as_array().unwrap().iter().any(is_below), "{title}: {} is in none of {saved}", param.name);
    }
    let modules = base.info().target_modules.len();
    assert_eq!(adapted(base.as_ref(), attached.as_ref()).len(), modules, "{title}: LoRA is at every module");
    let of_adapter = |name: &str| adapter.tensors()[name].shallow_clone();
    let trained = logits(base.as_ref(), attached.as_ref(), of_adapter);
    let untrained = logits(base.as_ref(), &Frozen, of_adapter);
    assert!(error(&trained, &untrained) > ROUNDING, "{title}: nothing was trained");
    let file = TensorFile::open(&world.path("merged/model.safetensors")).unwrap();
    let of_merged = logits(merged.as_ref(), &Frozen, |name| file.read(name).unwrap());
    assert!(error(&of_merged, &trained) <= ROUNDING, "{title}: off by {}", error(&of_merged, &trained));
}

#[test]
fn every_architecture_trains_exports_merges_and_loads() {
    ENCODERS.iter().copied().for_each(goes_all_the_way);
}

/// Each run drops its own inputs, those of DeBERTa's distances among them, whatever else is in the batch.
#[test]
fn dropout_of_the_branches_is_the_same_alone_and_stacked() {
    for entry in ENCODERS {
        let (world, title) = (world(entry), entry.model_type);
        let lora = ["--methods", "lora", "--seeds", "0,1", "--set", "lora.lora_dropout=0.3"];
        world.run(&lora).assert().success();
        world.run(&[&lora[..], &["--stack", "2", "--out", "both"]].concat()).assert().success();
        let losses = |out: &str| {
            names(&world).iter().map(|n| task_loss(&world, &format!("{out}/runs/{n}/epochs.csv"))).collect()
        };
        let [alone, stacked]: [Vec<f64>; 2] = ["out", "both"].map(losses);
        assert!(alone.iter().zip(&stacked).all(|(a, b)| (a - b).abs() < ROUNDING), "{title}: {alone:?}, {stacked:?}");
    }
}

/// PEFT has targets of its own for LoRA on ELECTRA, and none for ModernBERT.
#[test]
fn targets_that_are_left_out_are_those_of_peft_or_refused() {
    for (model_type, has_targets) in [("electra", true), ("modernbert", false)] {
        let world = world(ENCODERS.iter().find(|entry| entry.model_type == model_type).unwrap());
        world.run(&["--methods", "lora"]).assert().success();
        let run = format!("out/runs/{}", names(&world)[0]);
        world.rankbench(&["export", "--run", &run, "--out", "exported"]).assert().success();
        let mut config = exported_config(&world);
        config.as_object_mut().unwrap().remove("target_modules");
        world.write("exported/adapter_config.json", config.to_string());
        let encoder = load(&world, "tiny");
        match read_adapter(&world.path("exported"), encoder.as_ref()) {
            Ok(adapter) => {
                let paths = adapted(encoder.as_ref(), adapter.attach(encoder.as_ref()).unwrap().as_ref());
                let is_target = |path: &String| path.ends_with(".query") || path.ends_with(".value");
                assert!(has_targets && paths.len() == 4 && paths.iter().all(is_target), "{paths:?}");
            }
            Err(e) => assert!(!has_targets && e.to_string().contains("target_modules"), "{model_type}: {e}"),
        }
    }
}
