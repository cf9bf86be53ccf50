//! Checkpoints as other programs write them, and what is said of those that cannot be read.

use std::path::{Path, PathBuf};

use encoders::Encoder;
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

/// `pytorch_model.bin` as torch 2.11's `torch.save` wrote it of an ordered dictionary with `_metadata`, and its values.
fn pickled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pickled")
}

fn copy(files: &[&str]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for file in files {
        std::fs::copy(pickled().join(file), dir.path().join(file)).unwrap();
    }
    dir
}

fn load(dir: &Path) -> encoders::Result<Box<dyn Encoder>> {
    encoders::load(dir, Device::Cpu, Kind::Float)
}

fn message(dir: &Path) -> String {
    load(dir).err().expect("it loads").to_string()
}

/// A directory whose `pytorch_model.bin` holds these bytes.
fn with_weights(bytes: &[u8]) -> TempDir {
    let dir = copy(&["config.json"]);
    std::fs::write(dir.path().join("pytorch_model.bin"), bytes).unwrap();
    dir
}

/// In the format of torch 1.6 and later, and in the one before it.
#[test]
fn a_pickled_checkpoint_holds_the_values_torch_saved() {
    let text = std::fs::read_to_string(pickled().join("values.json")).unwrap();
    let values: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    for file in ["pytorch_model.bin", "legacy.bin"] {
        let dir = with_weights(&std::fs::read(pickled().join(file)).unwrap());
        let encoder = load(dir.path()).unwrap();
        assert_eq!(encoder.weights().len(), values.len());
        for (name, tensor) in encoder.weights() {
            let want: Vec<f64> = values[name].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
            let got = Vec::<f64>::try_from(tensor.flatten(0, -1).to_kind(Kind::Double)).unwrap();
            assert_eq!(got, want, "{file}: {name}");
        }
    }
}

#[test]
fn a_cut_pickle_is_an_error() {
    for file in ["pytorch_model.bin", "legacy.bin"] {
        let whole = std::fs::read(pickled().join(file)).unwrap();
        for length in (0..whole.len()).step_by(37) {
            let message = message(with_weights(&whole[..length]).path());
            assert!(message.contains("pytorch_model.bin") && message.contains("download"), "{length}: {message}");
        }
    }
    let message = message(with_weights(b"no pickle at all, just text").path());
    assert!(message.contains("pytorch_model.bin"), "{message}");
}

proptest! {
    /// Whatever the bytes are, there is an encoder or an error.
    #[test]
    fn a_damaged_pickle_does_no_harm(places in prop::collection::vec((0usize..8521, any::<u8>()), 1..6), legacy: bool) {
        let file = if legacy { "legacy.bin" } else { "pytorch_model.bin" };
        let mut bytes = std::fs::read(pickled().join(file)).unwrap();
        let length = bytes.len();
        for (place, byte) in places {
            bytes[place % length] = byte;
        }
        let _ = load(with_weights(&bytes).path());
    }
}

#[test]
fn without_weights_the_better_file_is_asked_for() {
    let message = message(copy(&["config.json"]).path());
    assert!(message.contains("model.safetensors") && message.contains("pytorch_model.bin"), "{message}");
}

#[test]
fn options_of_deberta_that_are_not_v3_are_refused() {
    let tiny = encoders::deberta_v3::ENTRY.tiny;
    let random = |config: &str| {
        let config = encoders::Config::parse(config, Path::new("config.json")).unwrap();
        encoders::random(&config, 1, Device::Cpu, Kind::Float).map(|_| ()).map_err(|e| e.to_string())
    };
    random(tiny).unwrap();
    random(&tiny.replace(r#""p2c|c2p""#, r#"["c2p", "p2c"]"#)).unwrap();
    for (from, to, option) in [
        (r#""share_att_key": true"#, r#""share_att_key": false"#, "share_att_key"),
        (r#""p2c|c2p""#, r#""c2p""#, "pos_att_type"),
        (r#""norm_rel_ebd": "layer_norm","#, "", "norm_rel_ebd"),
        (r#""relative_attention": true,"#, "", "relative_attention"),
        (r#""position_buckets": 8"#, r#""position_buckets": -1"#, "position_buckets"),
        (r#""type_vocab_size": 0"#, r#""type_vocab_size": 2"#, "type_vocab_size"),
        (r#""type_vocab_size": 0"#, r#""type_vocab_size": 0, "conv_kernel_size": 3"#, "conv_kernel_size"),
        (r#""type_vocab_size": 0"#, r#""type_vocab_size": 0, "z_steps": 2"#, "z_steps"),
    ] {
        let changed = tiny.replace(from, to);
        assert_ne!(changed, tiny, "{from}");
        let message = random(&changed).unwrap_err();
        assert!(message.contains(option), "{message}");
    }
}

/// Parameters of DeBERTaV3-base (spec §1.4, §1.5), without its 738 MB.
#[test]
fn deberta_v3_base_has_its_published_size() {
    let config = r#"{"model_type": "deberta-v2", "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
        "max_position_embeddings": 512, "relative_attention": true, "position_buckets": 256, "norm_rel_ebd": "layer_norm",
        "share_att_key": true, "pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7, "max_relative_positions": -1,
        "position_biased_input": false, "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 0,
        "vocab_size": 128100}"#;
    let config = encoders::Config::parse(config, Path::new("config.json")).unwrap();
    let encoder = encoders::random(&config, 1, Device::Cpu, Kind::Half).unwrap();
    assert_eq!(encoder.parameter_count(2), 184_423_682);
    let of = |is_counted: &dyn Fn(&str) -> bool| {
        encoder
            .weights()
            .iter()
            .filter(|(name, _)| is_counted(name))
            .map(|(_, t): &(String, Tensor)| t.numel())
            .sum::<usize>()
    };
    assert_eq!(of(&|name| name.ends_with(".bias")), 102_912);
    let widths: i64 = encoder.sites().iter().map(|site| site.d_in + site.d_out).sum();
    assert_eq!((encoder.sites().len(), widths), (72, 165_888));
}
