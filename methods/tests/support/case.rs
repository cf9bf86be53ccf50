//! Golden cases: a folder with `case.json` and `tensors.safetensors`, found by its leading letter and digit.
#![allow(dead_code)] // Every test binary uses its own part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tch::{Kind, Tensor};

pub fn fixtures() -> PathBuf {
    std::env::var_os("PARITY_FIXTURES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/parity"), PathBuf::from)
}

/// Every case whose folder starts with `class` (a letter and a digit). The project's own fixtures must have one.
pub fn cases(class: &str) -> Vec<Case> {
    let root = fixtures();
    let entries = std::fs::read_dir(&root).unwrap_or_else(|e| panic!("cannot read {}: {e}", root.display()));
    let mut dirs: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir() && path.file_name().unwrap().to_string_lossy().starts_with(class))
        .collect();
    dirs.sort();
    if dirs.is_empty() {
        assert!(std::env::var_os("PARITY_FIXTURES").is_some(), "no case {class}* in {}", root.display());
        eprintln!("skipped: no case {class}* in {}", root.display());
    }
    dirs.into_iter().map(Case::read).collect()
}

pub struct Case {
    pub dir: PathBuf,
    pub json: Value,
    tensors: BTreeMap<String, Tensor>,
}

impl Case {
    pub fn read(dir: PathBuf) -> Self {
        let text = std::fs::read_to_string(dir.join("case.json")).unwrap();
        let json = serde_json::from_str(&text).unwrap();
        let path = dir.join("tensors.safetensors");
        let tensors = if path.exists() { read_tensors(&path) } else { BTreeMap::new() };
        Case { dir, json, tensors }
    }

    pub fn name(&self) -> String {
        self.dir.file_name().unwrap().to_string_lossy().into_owned()
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub fn tensor(&self, name: &str) -> Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{}: no tensor {name}", self.name())).shallow_clone()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    pub fn config(&self, key: &str) -> &Value {
        &self.json["config"][key]
    }

    pub fn number(&self, key: &str) -> f64 {
        self.config(key).as_f64().unwrap_or_else(|| panic!("{}: config.{key} is no number", self.name()))
    }

    pub fn count(&self, key: &str) -> usize {
        self.config(key).as_u64().unwrap_or_else(|| panic!("{}: config.{key} is no count", self.name())) as usize
    }

    /// A column of `per_step`; null is NaN.
    pub fn per_step(&self, key: &str) -> Vec<f64> {
        floats(&self.json["per_step"][key])
    }

    pub fn dims(&self) -> Vec<i64> {
        self.config("dims").as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
    }
}

pub fn floats(value: &Value) -> Vec<f64> {
    let list = value.as_array().unwrap_or_else(|| panic!("expected a list, got {value}"));
    list.iter()
        .map(|v| match v {
            Value::Number(n) => n.as_f64().unwrap(),
            Value::Bool(b) => f64::from(u8::from(*b)),
            Value::String(s) => s.parse().unwrap(),
            Value::Null => f64::NAN,
            other => panic!("expected a number, got {other}"),
        })
        .collect()
}

pub fn read_tensors(path: &Path) -> BTreeMap<String, Tensor> {
    let data = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&data).unwrap();
    file.tensors()
        .into_iter()
        .map(|(name, view)| {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::F64 => Kind::Double,
                Dtype::I64 => Kind::Int64,
                Dtype::I32 => Kind::Int,
                Dtype::U8 => Kind::Uint8,
                Dtype::BOOL => Kind::Bool,
                other => panic!("{}: {name} is {other:?}", path.display()),
            };
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            (name.to_string(), Tensor::from_data_size(view.data(), &shape, kind))
        })
        .collect()
}

/// Writes the case's `state.*` tensors and configuration as a checkpoint directory in Hugging Face layout.
pub fn write_checkpoint(case: &Case, dir: &Path) {
    let mut config = case.json["config"].clone();
    if config.get("model_type").is_none() {
        config["model_type"] = case.json["model"].clone();
    }
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let state = case.names().filter_map(|name| Some((name.strip_prefix("state.")?.to_string(), case.tensor(name))));
    std::fs::write(dir.join("model.safetensors"), safetensors_bytes(&state.collect::<Vec<_>>())).unwrap();
}

/// Named float32 tensors as the bytes of a safetensors file.
pub fn safetensors_bytes(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let mut data = vec![0f32; tensor.numel()];
            tensor.to_kind(Kind::Float).contiguous().flatten(0, -1).copy_data(&mut data, tensor.numel());
            let shape = tensor.size().iter().map(|&n| n as usize).collect();
            (name.clone(), shape, data.iter().flat_map(|v| v.to_le_bytes()).collect())
        })
        .collect();
    let views = stored.iter().map(|(name, shape, data)| {
        (name.as_str(), safetensors::tensor::TensorView::new(Dtype::F32, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, None).unwrap()
}

/// The largest absolute difference of two tensors of one shape.
pub fn largest_error(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.size(), want.size());
    if want.numel() == 0 {
        return 0.0;
    }
    (got.to_kind(Kind::Double) - want.to_kind(Kind::Double)).abs().max().double_value(&[])
}
