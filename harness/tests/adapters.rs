//! `export`, `import`, `merge` and `tokenize` through the binary.

#[path = "../../encoders/tests/support/pickled.rs"]
mod handmade;
mod support;

use std::path::PathBuf;

use encoders::TensorFile;
use support::{World, failure, safetensors_bytes};
use tch::Tensor;

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
    set(r#""bias": "none""#, r#""bias": "All""#);
    refused("bias is");
    set(r#""init_lora_weights": true"#, r#""init_lora_weights": "OLoRA""#);
    refused("OLoRA");
    set(r#""use_dora": false"#, r#""use_dora": true"#);
    refused("with use_dora true");
    set(r#""use_dora": false"#, r#""kasa_config": {}"#);
    refused("kasa_config");
    set(r#""use_dora": false"#, r#""of_tomorrow": 3"#);
    refused("of_tomorrow");
    set(r#""bias": "none""#, r#""bias": "none", "r": "8""#);
    refused("r is");
    set(r#""alpha_pattern": {"#, r#""alpha_pattern": {"(": 3.0, "#);
    refused("regular expression");
    set(r#""peft_type": "LORA""#, r#""peft_type": "IA3""#);
    refused("peft_type is IA3");
    world.write(&format!("{adapter}/adapter_config.json"), &config);
    let tiny = world.read("tiny/config.json");
    world.write("tiny/config.json", tiny.replace(r#""num_hidden_layers": 2"#, r#""num_hidden_layers": 1"#));
    let encoder_of_one = failure(&mut world.rankbench(&["doctor", "--backbone", "tiny"]));
    assert!(encoder_of_one.0 == 3 && encoder_of_one.1.contains("surplus"), "{encoder_of_one:?}");
}

/// The tensors of an adapter, by their names in its file.
fn tensors(world: &World, adapter: &str) -> Vec<(String, Tensor)> {
    let file = TensorFile::open(&world.path(&format!("{adapter}/adapter_model.safetensors"))).unwrap();
    file.names().map(|name| (name.to_string(), file.read(name).unwrap())).collect()
}

/// Another adapter with the configuration of one.
fn write(world: &World, adapter: &str, name: &str, tensors: &[(String, Tensor)]) {
    world.write(&format!("{name}/adapter_config.json"), world.read(&format!("{adapter}/adapter_config.json")));
    world.write(&format!("{name}/adapter_model.safetensors"), safetensors_bytes(tensors));
}

#[test]
fn layouts_that_peft_loads_give_the_same_logits() {
    let world = World::new();
    let adapter = format!("{}/adapter", run(&world, "lora").to_str().unwrap());
    let logits = import(&world, "tiny", &adapter);
    let own = tensors(&world, &adapter);
    let renamed = |change: &dyn Fn(&str) -> String| -> Vec<(String, Tensor)> {
        own.iter().map(|(name, tensor)| (change(name), tensor.shallow_clone())).collect()
    };
    let default =
        |name: &str| if name.contains("lora_") { name.replace(".weight", ".default.weight") } else { name.into() };
    write(&world, &adapter, "default", &renamed(&default));
    assert_eq!(import(&world, "tiny", "default"), logits);
    // As the model without a head saves it.
    write(&world, &adapter, "bare", &renamed(&|name| name.replace(".bert.", ".")));
    let config = world.read("bare/adapter_config.json").replace("bert.encoder", "encoder");
    world.write("bare/adapter_config.json", config.replace("SEQ_CLS", "FEATURE_EXTRACTION"));
    assert_eq!(import(&world, "tiny", "bare"), logits);
    let pickled: Vec<_> = own.iter().map(|(name, tensor)| handmade::stored(name, tensor, true)).collect();
    write(&world, &adapter, "bin", &own);
    std::fs::remove_file(world.path("bin/adapter_model.safetensors")).unwrap();
    world.write("bin/adapter_model.bin", handmade::bytes(&pickled, None));
    assert_eq!(import(&world, "tiny", "bin"), logits);
}

#[test]
fn tensors_that_are_wrong_are_refused_by_name() {
    let world = World::new();
    let adapter = format!("{}/adapter", run(&world, "lora").to_str().unwrap());
    let own = tensors(&world, &adapter);
    let both = |parts: &[&str]| {
        let data = [&["import", "--backbone", "tiny", "--adapter", "other"][..], &DATA].concat();
        for arguments in [&data[..], &["merge", "--backbone", "tiny", "--adapter", "other", "--out", "merged"]] {
            let (code, text) = failure(&mut world.rankbench(arguments));
            assert!(code == 3 && parts.iter().all(|part| text.contains(part)), "{parts:?}: {code} {text}");
        }
    };
    let changed = |change: &dyn Fn(&str, &Tensor) -> Option<Tensor>| -> Vec<(String, Tensor)> {
        own.iter().filter_map(|(name, tensor)| Some((name.clone(), change(name, tensor)?))).collect()
    };
    let is = |name: &str, end: &str| name.ends_with(end);
    let query = "layer.1.attention.self.query.lora_B.weight";
    let with = |value: f64| changed(&|name, x| Some(if is(name, query) { x * value } else { x.shallow_clone() }));
    for value in [f64::NAN, f64::INFINITY] {
        write(&world, &adapter, "other", &with(value));
        both(&["not finite", query]);
    }
    write(
        &world,
        &adapter,
        "other",
        &changed(&|name, x| Some(if is(name, "classifier.bias") { x * f64::NAN } else { x.shallow_clone() })),
    );
    both(&["not finite", "classifier.bias"]);
    write(&world, &adapter, "other", &changed(&|name, x| (!name.contains("lora_")).then(|| x.shallow_clone())));
    both(&["no LoRA tensor", "12 modules"]);
    write(&world, &adapter, "other", &changed(&|name, x| (!is(name, query)).then(|| x.shallow_clone())));
    both(&["missing", "lora_A and lora_B"]);
    write(&world, &adapter, "other", &changed(&|name, x| (!is(name, "classifier.weight")).then(|| x.shallow_clone())));
    both(&["missing: classifier.weight", "modules_to_save"]);
    write(
        &world,
        &adapter,
        "other",
        &changed(&|name, x| Some(if is(name, query) { x.narrow(1, 0, 1) } else { x.shallow_clone() })),
    );
    both(&["lora_B is [16, 1]", "rank"]);
    let mut doubled = changed(&|_, x| Some(x.shallow_clone()));
    doubled.push((
        format!("base_model.model.bert.encoder.{}", query.replace(".weight", ".default.weight")),
        Tensor::ones([2], (tch::Kind::Float, tch::Device::Cpu)),
    ));
    write(&world, &adapter, "other", &doubled);
    both(&["doubled", query]);
    world
        .write("other/adapter_model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    both(&["adapter_model.safetensors", "git lfs pull"]);
}

#[test]
fn an_adapter_with_half_its_tensors_says_so() {
    let world = World::new();
    let adapter = format!("{}/adapter", run(&world, "lora").to_str().unwrap());
    let half: Vec<_> = tensors(&world, &adapter).into_iter().filter(|(name, _)| !name.contains("layer.1.")).collect();
    write(&world, &adapter, "half", &half);
    let arguments = [&["import", "--backbone", "tiny", "--adapter", "half"][..], &DATA].concat();
    let assert = world.rankbench(&arguments).assert().success();
    let text = String::from_utf8_lossy(&assert.get_output().stderr).into_owned();
    assert!(text.contains("6 of the 12 modules") && text.contains("half/adapter_model.safetensors"), "{text}");
}

#[test]
fn a_run_that_is_not_finished_has_nothing_to_export() {
    let world = World::new();
    std::fs::create_dir_all(world.path("out/runs/x")).unwrap();
    let (code, text) = failure(&mut world.rankbench(&["export", "--run", "out/runs/x", "--out", "o"]));
    assert!(code == 3 && text.contains("nor DONE"), "{code} {text}");
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
