//! Inputs of the fuzz target of adapters (`fuzz/`): seeds, and what the target found. An adapter or an error, and the process
//! stays small.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use encoders::{Config, Encoder, TargetModule};
use methods::LoraWeights;
use methods::peft::files::safetensors_bytes;
use methods::peft::format::TrainedAdapter;
use methods::peft::low_rank::adapter::LowRankAdapter;
use methods::registry::read_adapter;
use methods::tuners::base_weights::BaseWeightsAdapter;
use tch::{Device, Kind, Tensor};

/// MiB that all inputs together may add to the process.
const MOST: u64 = 300;

fn inputs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/fuzz/adapter")
}

fn encoder() -> Box<dyn Encoder> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pickled/config.json");
    encoders::random(&Config::read(&path).unwrap(), 1, Device::Cpu, Kind::Float).unwrap()
}

/// Largest memory of the process so far, in MiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Reads an input: the configuration, and after a zero byte the weights.
fn read(dir: &Path, input: &[u8], encoder: &dyn Encoder) -> Result<(), String> {
    let mut files = input.splitn(2, |&byte| byte == 0);
    fs::write(dir.join("adapter_config.json"), files.next().unwrap()).unwrap();
    let weights = files.next().unwrap_or_default();
    let is_pickle = weights.starts_with(b"PK") || weights.starts_with(b"\x80");
    let [name, other] = ["adapter_model.bin", "adapter_model.safetensors"];
    let (name, other) = if is_pickle { (name, other) } else { (other, name) };
    fs::write(dir.join(name), weights).unwrap();
    let _ = fs::remove_file(dir.join(other));
    let adapter = read_adapter(dir, encoder).map_err(|e| e.to_string())?;
    adapter.attach(encoder).map(drop).map_err(|e| e.to_string())
}

#[test]
fn inputs_of_the_fuzz_target_do_no_harm() {
    let (dir, encoder) = (tempfile::tempdir().unwrap(), encoder());
    let mut paths: Vec<PathBuf> = fs::read_dir(inputs()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no input");
    let before = peak();
    for path in paths {
        let said = read(dir.path(), &fs::read(&path).unwrap(), encoder.as_ref());
        assert!(!path.ends_with("lora") || said.is_ok(), "{said:?}");
    }
    assert!(peak() - before < MOST, "{before} MiB, then {}", peak());
}

#[test]
#[ignore = "writes the seeds afresh"]
fn write_seeds() {
    let (dir, encoder) = (tempfile::tempdir().unwrap(), encoder());
    let write = |name: &str, config: &serde_json::Value, weights: &[u8]| {
        let config = serde_json::to_string_pretty(config).unwrap();
        let input = [config.as_bytes(), b"\0", weights].concat();
        read(dir.path(), &input, encoder.as_ref()).unwrap_or_else(|e| panic!("{name}: {e}"));
        fs::write(inputs().join(name), input).unwrap();
    };
    tch::manual_seed(7);
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.1;
    let of_site = |module: &TargetModule| {
        let (a, b) = (random(&[2, module.d_in]), random(&[module.d_out, 2]));
        (module.path.clone(), LoraWeights { a, b, scale: 1.5, magnitude: None })
    };
    let own = || encoder.info().weights.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()));
    let head = || encoder.new_head(2, 0).params.into_iter().map(|param| (param.name, param.init)).collect();
    let write_own = |name: &str, adapter: &dyn TrainedAdapter| {
        let files = adapter.write("tiny").unwrap();
        write(name, &files.config, &files.weights);
    };
    let factors = encoder.info().target_modules.iter().take(3).map(of_site).collect();
    write_own("lora", &LowRankAdapter { factors, tensors: head(), ..LowRankAdapter::default() });
    write_own("full", &BaseWeightsAdapter { peft_type: "FULL", tensors: own().collect() });
    let biases = own().filter(|(name, _)| name.ends_with(".bias")).collect();
    write_own("bitfit", &BaseWeightsAdapter { peft_type: "BITFIT", tensors: biases });

    // As PEFT itself writes them.
    let mut config = serde_json::json!({
        "peft_type": "LORA", "task_type": "FEATURE_EXTRACTION", "base_model_name_or_path": "tiny", "r": 2, "lora_alpha": 4,
        "lora_dropout": 0.0, "bias": "none", "use_rslora": true, "lora_bias": true, "init_lora_weights": true,
        "target_modules": "(.*query|.*value)", "exclude_modules": ["key"], "rank_pattern": {"value": 1}, "alpha_pattern": {".*query": 3},
        "modules_to_save": null
    });
    let module = |name: &str| format!("base_model.model.bert.encoder.layer.0.attention.self.{name}");
    let mut tensors = BTreeMap::new();
    for (name, rank) in [("query", 2), ("value", 1)] {
        tensors.insert(module(name) + ".lora_A.weight", random(&[rank, 4]));
        tensors.insert(module(name) + ".lora_B.weight", random(&[4, rank]));
        tensors.insert(module(name) + ".lora_B.bias", random(&[4]));
    }
    write("peft", &config, &safetensors_bytes(&tensors).unwrap());
    for (option, value) in [("peft_type", "ADALORA".into()), ("init_r", 2.into()), ("target_r", 1.into())] {
        config[option] = value;
    }
    for (option, value) in [("target_modules", ["query", "value"]), ("layers_pattern", ["layer", "layers"])] {
        config[option] = serde_json::json!(value);
    }
    config["layers_to_transform"] = serde_json::json!([0]);
    for option in ["use_rslora", "lora_bias", "alpha_pattern"] {
        config.as_object_mut().unwrap().remove(option);
    }
    config["rank_pattern"] = serde_json::json!({
        "bert.encoder.layer.0.attention.self.query.lora_E": [true, false],
        "bert.encoder.layer.0.attention.self.value.lora_E": [true, true]
    });
    let mut tensors = BTreeMap::new();
    for (name, rank) in [("query", 1), ("value", 2)] {
        tensors.insert(module(name) + ".lora_A", random(&[rank, 4]));
        tensors.insert(module(name) + ".lora_B", random(&[4, rank]));
        tensors.insert(module(name) + ".lora_E", random(&[rank, 1]));
    }
    write("adalora", &config, &safetensors_bytes(&tensors).unwrap());
}
