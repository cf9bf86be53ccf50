//! Inputs of the fuzz targets (`fuzz/`): seeds, and what the targets found. Their readers give an encoder or an error,
//! and the process stays small.

#[path = "support/pickled.rs"]
mod handmade;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use encoders::{Config, Encoder, TensorFile};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use tch::{Device, Kind, Tensor};
use tempfile::tempdir;

/// MiB that all inputs together may add to the process.
const MOST: u64 = 300;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures")
}

/// Name and content of a target's inputs.
fn inputs(target: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(fixtures().join("fuzz").join(target)).unwrap().map(|entry| entry.unwrap().path());
    let inputs: BTreeMap<_, _> = entries
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    assert!(!inputs.is_empty(), "no input of {target}");
    inputs
}

/// Largest memory of the process so far, in MiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

fn load(dir: &Path) -> Result<(), String> {
    encoders::load(dir, Device::Cpu, Kind::Float).map(drop).map_err(|e| e.to_string())
}

#[test]
fn inputs_of_the_fuzz_targets_do_no_harm() {
    let dir = tempdir().unwrap();
    let before = peak();
    for (target, file) in [("safetensors", "model.safetensors"), ("pickle", "pytorch_model.bin")] {
        let dir = dir.path().join(target);
        fs::create_dir(&dir).unwrap();
        fs::copy(fixtures().join("pickled/config.json"), dir.join("config.json")).unwrap();
        for (name, input) in inputs(target) {
            fs::write(dir.join(file), input).unwrap();
            if let Ok(file) = TensorFile::open(&dir.join(file)) {
                file.names().for_each(|name| drop(file.read(name)));
            }
            let said = load(&dir);
            assert!(name != "bert" || said.is_ok(), "{target} {name}: {said:?}");
        }
    }
    for entry in encoders::ENCODERS {
        let dir = dir.path().join(entry.model_type);
        fs::create_dir(&dir).unwrap();
        fs::copy(fixtures().join("fuzz/safetensors").join(entry.model_type), dir.join("model.safetensors")).unwrap();
        for (name, input) in inputs("config") {
            fs::write(dir.join("config.json"), input).unwrap();
            let said = load(&dir);
            assert!(name != entry.model_type || said.is_ok(), "{name}: {said:?}");
        }
    }
    assert!(peak() - before < MOST, "{before} MiB, then {}", peak());
}

/// The configuration of an architecture's tiny model, made smaller.
fn config(tiny: &str) -> String {
    let mut config: serde_json::Map<String, serde_json::Value> = serde_json::from_str(tiny).unwrap();
    let sizes = [("hidden_size", 4), ("num_hidden_layers", 1), ("intermediate_size", 6), ("vocab_size", 8)];
    sizes.into_iter().for_each(|(option, size)| drop(config.insert(option.into(), size.into())));
    config.insert("max_position_embeddings".into(), 5.into());
    config.entry("position_buckets").and_modify(|buckets| *buckets = 4.into());
    serde_json::to_string_pretty(&config).unwrap()
}

/// The bytes of a safetensors file.
fn bytes(weights: &[(String, Tensor)], kinds: &[(Dtype, Kind)]) -> Vec<u8> {
    let stored = weights.iter().zip(kinds.iter().cycle()).map(|((name, tensor), (dtype, kind))| {
        let flat = tensor.to_kind(*kind).flatten(0, -1).view_dtype(Kind::Uint8);
        let shape: Vec<usize> = tensor.size().iter().map(|&n| n as usize).collect();
        (name.as_str(), *dtype, shape, Vec::<u8>::try_from(flat).unwrap())
    });
    let stored: Vec<_> = stored.collect();
    let views =
        stored.iter().map(|(name, dtype, shape, data)| (*name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

#[test]
#[ignore = "writes the seeds afresh"]
fn write_seeds() {
    let write = |place: &str, bytes: &[u8]| fs::write(fixtures().join("fuzz").join(place), bytes).unwrap();
    for entry in encoders::ENCODERS {
        let text = config(entry.tiny);
        write(&format!("config/{}", entry.model_type), text.as_bytes());
        let encoder = random(&text);
        write(
            &format!("safetensors/{}", entry.model_type),
            &bytes(&encoder.info().weights, &[(Dtype::F32, Kind::Float)]),
        );
    }
    let encoder = random(&fs::read_to_string(fixtures().join("pickled/config.json")).unwrap());
    let kinds = [(Dtype::F16, Kind::Half), (Dtype::BF16, Kind::BFloat16), (Dtype::F64, Kind::Double)];
    write("safetensors/kinds", &bytes(&encoder.info().weights, &kinds));
    for (name, is_transposed, nested) in [("bert", false, None), ("transposed", true, Some("state_dict"))] {
        let stored: Vec<_> =
            encoder.info().weights.iter().map(|(name, tensor)| handmade::stored(name, tensor, is_transposed)).collect();
        write(&format!("pickle/{name}"), &handmade::bytes(&stored, nested));
    }
    write("pickle/zip", &fs::read(fixtures().join("pickled/pytorch_model.bin")).unwrap());
}

fn random(config: &str) -> Box<dyn Encoder> {
    let config = Config::parse(config, Path::new("config.json")).unwrap();
    encoders::random(&config, 1, Device::Cpu, Kind::Float).unwrap()
}
