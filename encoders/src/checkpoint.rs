//! Weights of a checkpoint directory: `model.safetensors`, memory-mapped, or else `pytorch_model.bin`; every tensor is
//! asked for by name and shape.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, UncheckedAdvice};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::pickle;

const SAFETENSORS: &str = "model.safetensors";
const PICKLED: &str = "pytorch_model.bin";
const HELP: &str = "download the checkpoint again (a backbone is a directory with config.json, model.safetensors or \
                    pytorch_model.bin, and a tokenizer)";
/// Bytes copied from the map before its pages are given back.
const CHUNK: usize = 16 << 20;

/// The opened weights.
pub struct Checkpoint {
    path: PathBuf,
    map: Mmap,
    index: BTreeMap<String, Entry>,
}

/// A stored tensor.
pub(crate) struct Entry {
    pub kind: Kind,
    pub shape: Vec<i64>,
    /// First byte in the file.
    pub start: usize,
    /// Bytes.
    pub length: usize,
}

impl Checkpoint {
    /// Maps `model.safetensors` of `dir`, or else `pytorch_model.bin`.
    ///
    /// # Errors
    /// Neither is there; it is truncated, damaged or of another format.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = weights_file(dir);
        let unreadable = |reason: String| Error::Unreadable { path: path.clone(), reason, help: HELP };
        let file = File::open(&path).map_err(|e| unreadable(e.to_string()))?;
        // SAFETY: the file is only read; a backbone is not expected to change while it is loaded.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| unreadable(e.to_string()))?;
        let index = if path.ends_with(PICKLED) { pickle::index(&map) } else { safetensors_index(&map) };
        Ok(Checkpoint { index: index.map_err(unreadable)?, path: path.clone(), map })
    }

    /// A reader whose names may carry `prefix` (e.g. `bert.`) or not: base models are saved without it.
    pub fn reader<'a>(&'a self, prefix: &'a str, device: Device, kind: Kind) -> Reader<'a> {
        let is_prefixed = self.index.keys().any(|name| name.starts_with(prefix));
        Reader::new(Source::File(Stored { checkpoint: self, prefix, is_prefixed }), device, kind)
    }
}

fn safetensors_index(map: &Mmap) -> std::result::Result<BTreeMap<String, Entry>, String> {
    let tensors = SafeTensors::deserialize(map).map_err(|e| format!("it is truncated or no safetensors file ({e})"))?;
    let entry = |(name, view): (String, TensorView)| {
        let kind = match view.dtype() {
            Dtype::F64 => Kind::Double,
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::I64 => Kind::Int64,
            Dtype::I32 => Kind::Int,
            Dtype::BOOL => Kind::Bool,
            Dtype::U8 => Kind::Uint8,
            other => return Err(format!("{name} has the unknown type {other:?}")),
        };
        let shape = view.shape().iter().map(|&n| n as i64).collect();
        let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
        Ok((name, Entry { kind, shape, start, length: view.data().len() }))
    };
    tensors.tensors().into_iter().map(entry).collect()
}

/// The file with the weights: `pytorch_model.bin` only where there is nothing better.
fn weights_file(dir: &Path) -> PathBuf {
    let [safetensors, pickled] = [SAFETENSORS, PICKLED].map(|name| dir.join(name));
    if !safetensors.exists() && pickled.exists() { pickled } else { safetensors }
}

/// Hands out tensors and remembers what was missing, surplus or of another shape, so that all of it is reported at once.
pub struct Reader<'a> {
    source: Source<'a>,
    device: Device,
    kind: Kind,
    used: RefCell<BTreeSet<String>>,
    taken: RefCell<Vec<(String, Tensor)>>,
    problems: RefCell<Vec<String>>,
}

enum Source<'a> {
    File(Stored<'a>),
    /// Every tensor is drawn when it is asked for.
    Random,
}

/// The tensors of a file.
struct Stored<'a> {
    checkpoint: &'a Checkpoint,
    prefix: &'a str,
    is_prefixed: bool,
}

impl<'a> Reader<'a> {
    fn new(source: Source<'a>, device: Device, kind: Kind) -> Self {
        let (used, taken, problems) = Default::default();
        Reader { source, device, kind, used, taken, problems }
    }

    /// Random weights instead of a file, the same for the same seed: matrices N(0, 1/width), vectors N(0, 0.05²),
    /// LayerNorm weights around 1.
    pub fn random(seed: i64, device: Device, kind: Kind) -> Self {
        tch::manual_seed(seed);
        Reader::new(Source::Random, device, kind)
    }

    /// The backbone's tensor `name` (without prefix) of `shape`, on the device, with its number in [`Reader::taken`].
    /// Where it is missing or of another shape, a placeholder is given and [`Reader::finish`] fails.
    pub fn take(&self, name: &str, shape: &[i64]) -> (usize, Tensor) {
        let tensor = self.read(name, shape).unwrap_or_else(|| {
            self.problems.borrow_mut().push(format!("missing: {name}, expected shape {shape:?}"));
            self.placeholder(shape)
        });
        let mut taken = self.taken.borrow_mut();
        taken.push((name.to_string(), tensor.shallow_clone()));
        (taken.len() - 1, tensor)
    }

    /// Device and kind of the tensors.
    pub fn options(&self) -> (Device, Kind) {
        (self.device, self.kind)
    }

    /// Lays taken tensors, equal in all but their first dimension, one below the other, with `room` more lines (and columns,
    /// of matrices) of zeros behind them; each becomes a view of the whole.
    pub fn join(&self, indices: &[usize], room: i64) -> (Tensor, Vec<Tensor>) {
        let mut taken = self.taken.borrow_mut();
        let parts: Vec<&Tensor> = indices.iter().map(|&index| &taken[index].1).collect();
        let sizes: Vec<i64> = parts.iter().map(|part| part.size()[0]).collect();
        let joined = if let [one] = parts.as_slice() { one.shallow_clone() } else { Tensor::cat(&parts, 0) };
        let size = joined.size();
        let whole = if room > 0 { joined.constant_pad_nd([0, room].repeat(size.len())) } else { joined };
        let content = size.iter().enumerate().fold(whole.shallow_clone(), |x, (dim, &n)| x.narrow(dim as i64, 0, n));
        let views = content.split_with_sizes(&sizes, 0);
        for (&index, view) in indices.iter().zip(&views) {
            taken[index].1 = view.shallow_clone();
        }
        (whole, views)
    }

    /// Every tensor [`Reader::take`] gave, in its order.
    pub fn taken(&self) -> Vec<(String, Tensor)> {
        self.taken.borrow().iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// Weight and bias of a square linear that belongs to the head, where the checkpoint has it.
    pub fn take_linear_of_head(&self, name: &str, width: i64) -> Option<[Tensor; 2]> {
        let weight = self.read(&format!("{name}.weight"), &[width, width])?;
        let bias = self.read(&format!("{name}.bias"), &[width]).unwrap_or_else(|| {
            self.problems.borrow_mut().push(format!("missing: {name}.bias, expected shape [{width}]"));
            self.placeholder(&[width])
        });
        Some([weight, bias])
    }

    fn read(&self, name: &str, shape: &[i64]) -> Option<Tensor> {
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
        let surplus = stored.checkpoint.index.keys().filter(|name| {
            let bare = name.strip_prefix(stored.prefix).unwrap_or(name);
            !used.contains(*name) && !ignored.iter().any(|start| bare.starts_with(start))
        });
        problems.extend(surplus.map(|name| format!("surplus: {name}")));
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Checkpoint { path: stored.checkpoint.path.clone(), problems })
        }
    }

    fn placeholder(&self, shape: &[i64]) -> Tensor {
        // Of one value only: a wrong shape in the configuration may ask for more than there is.
        Tensor::zeros([1], (self.kind, self.device)).expand(shape, true)
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
        // What belongs to the head may stand without the prefix.
        let prefixes = if self.is_prefixed { [self.prefix, ""] } else { ["", ""] };
        let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let names = prefixes.into_iter().flat_map(|prefix| [name, old.as_str()].map(|name| format!("{prefix}{name}")));
        names.into_iter().find(|name| self.checkpoint.index.contains_key(name))
    }

    fn tensor(&self, name: &str, shape: &[i64], device: Device, kind: Kind) -> std::result::Result<Tensor, String> {
        let Some(entry) = self.checkpoint.index.get(name) else { return Err(format!("unreadable: {name}")) };
        if entry.shape != shape {
            return Err(format!("wrong shape: {name} is {:?}, expected {shape:?}", entry.shape));
        }
        if !matches!(entry.kind, Kind::Double | Kind::Float | Kind::Half | Kind::BFloat16) {
            return Err(format!("wrong type: {name} is {:?}, expected floating point", entry.kind));
        }
        let tensor = copied(&self.checkpoint.map, entry);
        let tensor = tensor.and_then(|t| t.f_to_device(device)).and_then(|t| t.f_to_kind(kind));
        let tensor = tensor.map_err(|e| format!("unreadable: {name} ({e})"))?;
        let (least, most) = tensor.aminmax(None, false);
        let is_finite = [least, most].iter().all(|bound| bound.double_value(&[]).is_finite());
        if is_finite { Ok(tensor) } else { Err(format!("not finite: {name} holds NaN or infinity")) }
    }
}

/// Copies a tensor out of the map chunk by chunk and gives the map's pages back as it goes, so that a checkpoint is in
/// memory once, not twice.
fn copied(map: &Mmap, entry: &Entry) -> std::result::Result<Tensor, tch::TchError> {
    let tensor = Tensor::f_empty(&entry.shape, (entry.kind, Device::Cpu))?;
    let data = &map[entry.start..entry.start + entry.length];
    for (index, chunk) in data.chunks(CHUNK).enumerate() {
        // SAFETY: the new tensor is contiguous and, as its index entry was checked, has as many bytes as `data`.
        unsafe {
            let target = tensor.data_ptr().cast::<u8>().add(index * CHUNK);
            std::ptr::copy_nonoverlapping(chunk.as_ptr(), target, chunk.len());
        }
        let start = entry.start + index * CHUNK;
        // SAFETY: the map is read-only and backed by the file, so a page that is given back is read again when needed.
        let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, chunk.len()) };
    }
    Ok(tensor)
}

/// sha256 of the files of a checkpoint directory that determine what an encoder computes: (name, sha256) of
/// `config.json` and the file with the weights.
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
    let weights = weights_file(dir);
    let weights = weights.file_name().map_or(SAFETENSORS.into(), |name| name.to_string_lossy());
    ["config.json", &weights].into_iter().map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_tensors_are_views_with_room_of_zeros_behind_them() {
        let reader = Reader::random(1, Device::Cpu, Kind::Float);
        let names = ["query", "key"].map(|name| reader.take(&format!("{name}.weight"), &[3, 4]));
        let before = names.each_ref().map(|(_, tensor)| tensor.copy());
        let (whole, views) = reader.join(&names.map(|(index, _)| index), 5);
        assert_eq!(whole.size(), [11, 9]);
        assert!(before.iter().zip(&views).all(|(before, view)| before == view));
        assert!(reader.taken().iter().zip(&views).all(|((_, taken), view)| taken.data_ptr() == view.data_ptr()));
        let outside = whole.abs().sum(Kind::Double) - Tensor::cat(&before, 0).abs().sum(Kind::Double);
        assert!(outside.abs().double_value(&[]) < 1e-9);
        // What is written to the room leaves the views alone, and what is written to a view is in the whole.
        let _ = whole.narrow(1, 4, 5).fill_(1.0);
        assert_eq!(before[1], views[1]);
        let _ = views[1].shallow_clone().fill_(2.0);
        assert_eq!(whole.double_value(&[3, 0]), 2.0);
    }
}
