//! Weights of a checkpoint directory: `model.safetensors`, memory-mapped, every tensor asked for by name and shape.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

const WEIGHTS: &str = "model.safetensors";
const HELP: &str =
    "download the checkpoint again (a backbone is a directory with config.json, model.safetensors and a tokenizer)";

/// The memory-mapped weights.
pub struct Checkpoint {
    path: PathBuf,
    map: Mmap,
}

impl Checkpoint {
    /// Maps `model.safetensors` of `dir`.
    ///
    /// # Errors
    /// It is missing or unreadable.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(WEIGHTS);
        let unreadable =
            |e: std::io::Error| Error::Unreadable { path: path.clone(), reason: e.to_string(), help: HELP };
        let file = File::open(&path).map_err(unreadable)?;
        // SAFETY: the file is only read; a backbone is not expected to change while a run reads it.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        Ok(Checkpoint { path, map })
    }

    /// A reader whose names may carry `prefix` (e.g. `bert.`) or not: base models are saved without it.
    ///
    /// # Errors
    /// A truncated or damaged file.
    pub fn reader<'a>(&'a self, prefix: &'a str, device: Device, kind: Kind) -> Result<Reader<'a>> {
        let tensors = SafeTensors::deserialize(&self.map).map_err(|e| Error::Unreadable {
            path: self.path.clone(),
            reason: format!("it is truncated or no safetensors file ({e})"),
            help: HELP,
        })?;
        let stored: Vec<String> = tensors.names().into_iter().map(str::to_string).collect();
        let is_prefixed = stored.iter().any(|name| name.starts_with(prefix));
        let source = Source::File(Stored { path: &self.path, tensors, names: stored, prefix, is_prefixed });
        Ok(Reader { source, device, kind, used: RefCell::default(), problems: RefCell::default() })
    }
}

/// Hands out tensors and remembers what was missing, surplus or of another shape, so that all of it is reported at once.
pub struct Reader<'a> {
    source: Source<'a>,
    device: Device,
    kind: Kind,
    used: RefCell<BTreeSet<String>>,
    problems: RefCell<Vec<String>>,
}

enum Source<'a> {
    File(Stored<'a>),
    /// Every tensor is drawn when it is asked for.
    Random,
}

/// The tensors of a file.
struct Stored<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
    names: Vec<String>,
    prefix: &'a str,
    is_prefixed: bool,
}

impl Reader<'_> {
    /// Random weights instead of a file, the same for the same seed: matrices N(0, 1/width), vectors N(0, 0.05²),
    /// LayerNorm weights around 1.
    pub fn random(seed: i64, device: Device, kind: Kind) -> Self {
        tch::manual_seed(seed);
        Reader { source: Source::Random, device, kind, used: RefCell::default(), problems: RefCell::default() }
    }

    /// The tensor `name` (without prefix) of `shape`, on the device. Where it is missing or of another shape, a
    /// placeholder is given and [`Reader::finish`] fails.
    pub fn take(&self, name: &str, shape: &[i64]) -> Tensor {
        self.take_optional(name, shape).unwrap_or_else(|| {
            self.problems.borrow_mut().push(format!("missing: {name}, expected shape {shape:?}"));
            self.placeholder(shape)
        })
    }

    /// [`Reader::take`] where the tensor may be absent.
    pub fn take_optional(&self, name: &str, shape: &[i64]) -> Option<Tensor> {
        let Source::File(stored) = &self.source else { return Some(self.drawn(name, shape)) };
        let name = stored.name_of(name)?;
        let tensor = stored.tensor(&name, shape, self.device, self.kind);
        self.used.borrow_mut().insert(name);
        Some(tensor.unwrap_or_else(|problem| {
            self.problems.borrow_mut().push(problem);
            self.placeholder(shape)
        }))
    }

    /// Reports everything that was wrong; tensors that nobody took and whose name does not start with one of `ignored`
    /// are surplus.
    ///
    /// # Errors
    /// Every missing, surplus and wrong-shaped tensor, one line each.
    pub fn finish(self, ignored: &[&str]) -> Result<()> {
        let Source::File(stored) = &self.source else { return Ok(()) };
        let mut problems = self.problems.into_inner();
        let used = self.used.into_inner();
        let surplus = stored.names.iter().filter(|name| {
            let bare = name.strip_prefix(stored.prefix).unwrap_or(name);
            !used.contains(*name) && !ignored.iter().any(|start| bare.starts_with(start))
        });
        problems.extend(surplus.map(|name| format!("surplus: {name}")));
        if problems.is_empty() { Ok(()) } else { Err(Error::Checkpoint { path: stored.path.to_path_buf(), problems }) }
    }

    fn placeholder(&self, shape: &[i64]) -> Tensor {
        Tensor::zeros(shape, (self.kind, self.device))
    }

    fn drawn(&self, name: &str, shape: &[i64]) -> Tensor {
        let deviation = if let [_, width] = shape { 1.0 / (*width as f64).sqrt() } else { 0.05 };
        let values = Tensor::randn(shape, (Kind::Float, Device::Cpu)) * deviation;
        let centre = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
        (values + centre).to_device(self.device).to_kind(self.kind)
    }
}

impl Stored<'_> {
    /// Old checkpoints call a LayerNorm's weight and bias gamma and beta.
    fn name_of(&self, name: &str) -> Option<String> {
        let prefix = if self.is_prefixed { self.prefix } else { "" };
        let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let names = [name, old.as_str()].map(|name| format!("{prefix}{name}"));
        names.into_iter().find(|name| self.tensors.tensor(name).is_ok())
    }

    fn tensor(&self, name: &str, shape: &[i64], device: Device, kind: Kind) -> std::result::Result<Tensor, String> {
        let view = self.tensors.tensor(name).map_err(|e| format!("unreadable: {name} ({e})"))?;
        let found: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        if found != shape {
            return Err(format!("wrong shape: {name} is {found:?}, expected {shape:?}"));
        }
        let stored = match view.dtype() {
            Dtype::F64 => Kind::Double,
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            other => return Err(format!("wrong type: {name} is {other:?}, expected floating point")),
        };
        let tensor = Tensor::f_from_data_size(view.data(), &found, stored);
        let tensor = tensor.and_then(|t| t.f_to_device(device)).and_then(|t| t.f_to_kind(kind));
        let tensor = tensor.map_err(|e| format!("unreadable: {name} ({e})"))?;
        let is_finite = tensor.isfinite().all().int64_value(&[]) == 1;
        if is_finite { Ok(tensor) } else { Err(format!("not finite: {name} holds NaN or infinity")) }
    }
}

/// sha256 of the files of a checkpoint directory that determine what an encoder computes: (name, sha256) of
/// `config.json` and the weights.
///
/// # Errors
/// A file that cannot be read.
pub fn checksums(dir: &Path) -> Result<Vec<(String, String)>> {
    let sum =
        |name: &str| {
            let path = dir.join(name);
            let mut hash = Sha256::new();
            File::open(&path)
                .and_then(|mut file| std::io::copy(&mut file, &mut hash))
                .map_err(|e| Error::Unreadable { path, reason: e.to_string(), help: HELP })?;
            Ok((name.to_string(), hex::encode(hash.finalize())))
        };
    ["config.json", WEIGHTS].into_iter().map(sum).collect()
}
