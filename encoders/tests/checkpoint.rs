//! Checkpoints as other programs write them, and what is said of those that cannot be read.

use std::path::{Path, PathBuf};

use encoders::{Encoder, TensorFile};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

#[path = "support/pickled.rs"]
mod handmade;

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
        assert_eq!(encoder.info().weights.len(), values.len());
        for (name, tensor) in &encoder.info().weights {
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
    /// An encoder or an error, for any bytes.
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

const BERT: &str = r#"{"model_type": "bert", "hidden_act": "gelu", "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 64, "max_position_embeddings": 40, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}"#;

fn drawn(config: &str) -> Vec<(String, Tensor)> {
    let config = encoders::Config::parse(config, Path::new("config.json")).unwrap();
    let encoder = encoders::random(&config, 1, Device::Cpu, Kind::Float).unwrap();
    encoder.info().weights.iter().map(|(name, tensor)| (name.clone(), tensor.copy())).collect()
}

fn safetensors(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let bytes = |tensor: &Tensor| -> Vec<u8> {
        Vec::<f32>::try_from(tensor.flatten(0, -1)).unwrap().iter().flat_map(|value| value.to_le_bytes()).collect()
    };
    let stored: Vec<_> = tensors.iter().map(|(name, tensor)| (name, tensor.size(), bytes(tensor))).collect();
    let views = stored.iter().map(|(name, size, bytes)| {
        let shape = size.iter().map(|&n| n as usize).collect();
        (name.as_str(), safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, bytes).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// A directory with a configuration and files.
fn directory(config: &str, files: &[(&str, Vec<u8>)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

fn same(encoder: &dyn Encoder, tensors: &[(String, Tensor)]) {
    for ((name, got), (_, want)) in encoder.info().weights.iter().zip(tensors) {
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn strides_and_a_nested_state_are_honoured() {
    let tensors = drawn(BERT);
    for (is_transposed, nested) in
        [(false, None), (true, None), (true, Some("state_dict")), (false, Some("model_state_dict"))]
    {
        let stored: Vec<_> =
            tensors.iter().map(|(name, tensor)| handmade::stored(name, tensor, is_transposed)).collect();
        let dir = directory(BERT, &[("pytorch_model.bin", handmade::bytes(&stored, nested))]);
        same(load(dir.path()).unwrap().as_ref(), &tensors);
    }
    // A tensor that is one value, told again: what torch's expand saves.
    let value =
        handmade::Stored { name: "x".into(), values: vec![2.0], shape: vec![3, 2], strides: vec![0, 0], offset: 0 };
    let dir = directory(BERT, &[("x.bin", handmade::bytes(&[value], None))]);
    let read = TensorFile::open(&dir.path().join("x.bin")).unwrap().read("x").unwrap();
    assert_eq!(read, Tensor::ones([3, 2], (Kind::Float, Device::Cpu)) * 2.0);
}

#[test]
fn a_tensor_without_end_on_one_value_is_an_error() {
    let shape = vec![1 << 20, 1 << 20];
    let value = handmade::Stored { name: "x".into(), values: vec![2.0], shape, strides: vec![0, 0], offset: 0 };
    let message = message(directory(BERT, &[("pytorch_model.bin", handmade::bytes(&[value], None))]).path());
    assert!(message.contains("far more values"), "{message}");
}

#[test]
fn shards_are_one_checkpoint() {
    let tensors = drawn(BERT);
    let (first, second) = tensors.split_at(9);
    let index = |of: &dyn Fn(usize) -> String| {
        let map = tensors.iter().enumerate().map(|(i, (name, _))| format!("{name:?}: {:?}", of(i))).collect::<Vec<_>>();
        format!(r#"{{"metadata": {{"total_size": 1}}, "weight_map": {{{}}}}}"#, map.join(", ")).into_bytes()
    };
    let name = |ending: &'static str, start: &'static str| {
        move |i: usize| format!("{start}-0000{}-of-00002.{ending}", if i < 9 { 1 } else { 2 })
    };
    let safe = name("safetensors", "model");
    let files = [
        ("model.safetensors.index.json", index(&safe)),
        ("model-00001-of-00002.safetensors", safetensors(first)),
        ("model-00002-of-00002.safetensors", safetensors(second)),
    ];
    let dir = directory(BERT, &files);
    same(load(dir.path()).unwrap().as_ref(), &tensors);
    let sums = encoders::checkpoint::checksums::checksums(dir.path()).unwrap();
    assert_eq!(sums.len(), 4, "configuration, index and two shards: {sums:?}");
    std::fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    let text = message(dir.path());
    assert!(text.contains("model-00002-of-00002.safetensors") && text.contains("missing shard"), "{text}");
    std::fs::remove_file(dir.path().join("model.safetensors.index.json")).unwrap();
    let text = message(dir.path());
    assert!(text.contains("not their index"), "{text}");

    let pickled = name("bin", "pytorch_model");
    let part = |tensors: &[(String, Tensor)]| {
        let stored: Vec<_> = tensors.iter().map(|(name, tensor)| handmade::stored(name, tensor, true)).collect();
        handmade::bytes(&stored, None)
    };
    let files = [
        ("pytorch_model.bin.index.json", index(&pickled)),
        ("pytorch_model-00001-of-00002.bin", part(first)),
        ("pytorch_model-00002-of-00002.bin", part(second)),
    ];
    same(load(directory(BERT, &files).path()).unwrap().as_ref(), &tensors);

    let outside = index(&|_| "../model.safetensors".into());
    let text = message(directory(BERT, &[("model.safetensors.index.json", outside)]).path());
    assert!(text.contains("expected the name of a file beside it"), "{text}");
}

/// A zip archive of files of these names.
fn archive(names: &[&str]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::FileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for name in names {
        writer.start_file(*name, options).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn a_file_says_what_it_is_by_its_content() {
    let tensors = drawn(BERT);
    let stored: Vec<_> = tensors.iter().map(|(name, tensor)| handmade::stored(name, tensor, false)).collect();
    let module = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02cmodels.bert\nBertModel\n)\x81}b.\x80\x02].";
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 440\n".to_vec();
    for (name, bytes, part) in [
        ("model.safetensors", pointer.clone(), "git lfs pull"),
        ("model.safetensors", b"<!DOCTYPE html><html>Sign in</html>".to_vec(), "web page"),
        ("model.safetensors", Vec::new(), "empty"),
        ("model.safetensors", handmade::bytes(&stored, None), "torch.save"),
        ("model.safetensors", b"GGUF\x03\x00\x00\x00".to_vec(), "GGUF"),
        ("pytorch_model.bin", safetensors(&tensors), "safetensors"),
        ("pytorch_model.bin", pointer, "git lfs pull"),
        ("pytorch_model.bin", module.to_vec(), "models.bert.BertModel"),
        ("pytorch_model.bin", archive(&["m/code/a.py", "m/constants.pkl", "m/data.pkl"]), "TorchScript"),
        ("pytorch_model.bin", archive(&["model/config.json"]), "without data.pkl"),
        ("tf_model.h5", b"\x89HDF\r\n\x1a\n".to_vec(), "tf_model.h5"),
    ] {
        let text = message(directory(BERT, &[(name, bytes)]).path());
        assert!(text.contains(part), "{name}: {text}");
    }
    let text = message(directory("version https://git-lfs.github.com/spec/v1\n", &[]).path());
    assert!(text.contains("config.json") && text.contains("git lfs pull"), "{text}");
}

/// An archive as torch 2.11 wrote it, one byte of a value changed.
#[test]
fn a_damaged_archive_does_not_pass() {
    let mut bytes = std::fs::read(pickled().join("pytorch_model.bin")).unwrap();
    // Values are aligned to 64 bytes after the name of their part.
    let place = bytes.windows(7).position(|window| window == b"/data/0").unwrap() + 7 + 128;
    bytes[place] ^= 1;
    let text = message(with_weights(&bytes).path());
    assert!(text.contains("CRC-32"), "{text}");
    // Where torch was told to leave all checksums out, they are 0: behind each signature of a part and of the
    // directory.
    for (signature, field) in [(b"PK\x03\x04", 14), (b"PK\x01\x02", 16), (b"PK\x07\x08", 4)] {
        let places: Vec<usize> = (0..bytes.len() - 4).filter(|&at| bytes[at..].starts_with(signature)).collect();
        places.into_iter().for_each(|at| bytes[at + field..at + field + 4].fill(0));
    }
    load(with_weights(&bytes).path()).unwrap();
}

#[test]
fn sizes_are_held_against_the_checkpoint_first() {
    let files = [("model.safetensors", safetensors(&drawn(BERT)))];
    for (from, to, option) in [
        (r#""hidden_size": 16"#, r#""hidden_size": 1600000"#, "hidden_size"),
        (r#""num_hidden_layers": 2"#, r#""num_hidden_layers": 1000000000000"#, "num_hidden_layers"),
        (r#""vocab_size": 64"#, r#""vocab_size": 9000000000000000000"#, "vocab_size"),
        (r#""intermediate_size": 24"#, r#""intermediate_size": 2400000000"#, "intermediate_size"),
        (r#""max_position_embeddings": 40"#, r#""max_position_embeddings": 400000000000"#, "max_position_embeddings"),
        (r#""type_vocab_size": 2"#, r#""type_vocab_size": 2000000000000"#, "type_vocab_size"),
    ] {
        let config = BERT.replace(from, to);
        assert_ne!(config, BERT);
        let text = message(directory(&config, &files).path());
        assert!(text.contains(option), "{option}: {text}");
    }
}

#[test]
fn options_that_change_nothing_are_taken_and_absent_ones_have_their_defaults() {
    let tensors = drawn(BERT);
    let mut with_head: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    for name in [
        "qa_outputs.weight",
        "cls.predictions.bias",
        "classifier.weight",
        "lm_head.bias",
        "bert.embeddings.position_ids",
    ] {
        with_head.push((name.into(), Tensor::ones([2], (Kind::Float, Device::Cpu))));
    }
    let files = [("model.safetensors", safetensors(&with_head))];
    let with = |more: &str| BERT.replacen('{', &format!("{{{more}, "), 1);
    for config in [
        with(r#""_attn_implementation_autoset": true"#),
        with(r#""directionality": "bidi", "pooler_fc_size": 768, "pooler_type": "first_token_transform""#),
        with(
            r#""output_past": true, "auto_map": {"AutoModel": "m.X"}, "is_decoder": null, "quantization_config": null"#,
        ),
        with(r#""architectures": ["BertForQuestionAnswering"]"#).replace(r#""model_type": "bert","#, ""),
        BERT.replace(r#""layer_norm_eps": 1e-12,"#, "").replace(r#""type_vocab_size": 2,"#, ""),
        BERT.replace(r#""hidden_act": "gelu""#, r#""hidden_act": "gelu_python""#),
    ] {
        same(load(directory(&config, &files).path()).unwrap().as_ref(), &tensors);
    }
    for (config, part) in [
        (with(r#""quantization_config": {"bits": 4}"#), "quantization_config"),
        (BERT.replace(r#""hidden_act": "gelu""#, r#""hidden_act": "gelu_new""#), "gelu_new"),
        (BERT.replace(r#""model_type": "bert","#, ""), "add \"model_type\""),
        (BERT.replace(r#""hidden_dropout_prob": 0.1"#, r#""hidden_dropout_prob": 1.5"#), "hidden_dropout_prob"),
        (with(r#""is_decoder": true"#), "is_decoder"),
    ] {
        let text = message(directory(&config, &files).path());
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn without_weights_the_better_file_is_asked_for() {
    let message = message(copy(&["config.json"]).path());
    assert!(message.contains("model.safetensors") && message.contains("pytorch_model.bin"), "{message}");
}

#[test]
fn options_of_deberta_that_are_not_v3_are_refused() {
    let tiny = encoders::models::deberta_v3::ENTRY.tiny;
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
            .info()
            .weights
            .iter()
            .filter(|(name, _)| is_counted(name))
            .map(|(_, t): &(String, Tensor)| t.numel())
            .sum::<usize>()
    };
    assert_eq!(of(&|name| name.ends_with(".bias")), 102_912);
    let widths: i64 = encoder.info().target_modules.iter().map(|module| module.d_in + module.d_out).sum();
    assert_eq!((encoder.info().target_modules.len(), widths), (72, 165_888));
}
