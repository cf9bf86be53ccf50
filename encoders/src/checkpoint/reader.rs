//! Tensors of a checkpoint directory, each asked for by name and shape.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use crate::checkpoint::file::TensorFile;
use crate::checkpoint::shards::weights;
use crate::checkpoint::tensor_info::TensorInfo;
use crate::error::{Error, Result};

/// The opened weights.
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<TensorFile>,
    /// The file of each tensor.
    places: BTreeMap<String, usize>,
}

impl Checkpoint {
    /// Maps the weights of `dir`, whole or in shards.
    ///
    /// # Errors
    /// There are none; a file is missing, truncated, damaged or of another format than its name says.
    pub fn open(dir: &Path) -> Result<Self> {
        let (path, shards) = weights(dir)?;
        let mut places = BTreeMap::new();
        let mut files = Vec::new();
        for shard in &shards {
            let file = TensorFile::open(shard)?;
            places.extend(file.names().map(|name| (name.to_string(), files.len())));
            files.push(file);
        }
        Ok(Checkpoint { path, files, places })
    }

    /// A reader whose names may carry `prefix` (e.g. `bert.`) or not: base models are saved without it.
    pub fn reader<'a>(&'a self, prefix: &'a str, device: Device, kind: Kind) -> Reader<'a> {
        let is_prefixed = self.places.keys().any(|name| name.starts_with(prefix));
        Reader::new(Source::File(Stored { checkpoint: self, prefix, is_prefixed }), device, kind)
    }

    fn entry(&self, name: &str) -> Option<(&TensorFile, &TensorInfo)> {
        let file = self.files.get(*self.places.get(name)?)?;
        Some((file, file.index().get(name)?))
    }
}

/// Hands out tensors and remembers what was missing, surplus or of another shape, so that all of it is reported at
/// once.
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

    /// The backbone's tensor `name` (without prefix) of `shape`, on the device, with its index in [`Reader::weights`].
    /// Where it is missing or of another shape, a placeholder is given and [`Reader::finish`] fails.
    pub fn take(&self, name: &str, shape: &[i64]) -> (usize, Tensor) {
        let tensor = self.required(name, shape);
        let mut taken = self.taken.borrow_mut();
        taken.push((name.to_string(), tensor.shallow_clone()));
        (taken.len() - 1, tensor)
    }

    /// Shape of the backbone's tensor `name` (without prefix) in the file; `None` where it is not there or nothing is
    /// read.
    pub(crate) fn shape(&self, name: &str) -> Option<&[i64]> {
        let Source::File(stored) = &self.source else { return None };
        let (_, entry) = stored.checkpoint.entry(&stored.name_of(name)?)?;
        Some(&entry.shape)
    }

    /// Names of the file without prefix and values of all its tensors; `None` where nothing is read.
    pub(crate) fn contents(&self) -> Option<(Vec<&str>, f64)> {
        let Source::File(stored) = &self.source else { return None };
        let bare = |name: &'a String| name.strip_prefix(stored.prefix).unwrap_or(name);
        let names = stored.checkpoint.places.keys().map(bare).collect();
        let entries = stored.checkpoint.files.iter().flat_map(|file| file.index().values());
        let values = entries.map(|entry| entry.shape.iter().map(|&n| n as f64).product::<f64>()).sum();
        Some((names, values))
    }

    /// Device and kind of the tensors.
    pub fn options(&self) -> (Device, Kind) {
        (self.device, self.kind)
    }

    /// Concatenates taken tensors, equal in all but their first dimension, with `reserved` more rows (and columns, of
    /// matrices) of zeros behind them. Each becomes a view of the result.
    pub fn fuse(&self, indices: &[usize], reserved: i64) -> (Tensor, Vec<Tensor>) {
        let mut taken = self.taken.borrow_mut();
        let parts: Vec<&Tensor> = indices.iter().map(|&index| &taken[index].1).collect();
        let sizes: Vec<i64> = parts.iter().map(|part| part.size()[0]).collect();
        let content = if let [one] = parts.as_slice() { one.shallow_clone() } else { Tensor::cat(&parts, 0) };
        let size = content.size();
        let fused = if reserved > 0 { content.constant_pad_nd([0, reserved].repeat(size.len())) } else { content };
        let content = size.iter().enumerate().fold(fused.shallow_clone(), |x, (dim, &n)| x.narrow(dim as i64, 0, n));
        let views = content.split_with_sizes(&sizes, 0);
        for (&index, view) in indices.iter().zip(&views) {
            taken[index].1 = view.shallow_clone();
        }
        (fused, views)
    }

    /// Every tensor [`Reader::take`] gave, in its order, with `prefix` before its name.
    pub fn weights(&self, prefix: &str) -> Vec<(String, Tensor)> {
        let taken = self.taken.borrow();
        taken.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.shallow_clone())).collect()
    }

    /// Weight and bias of a square linear that belongs to the head, where the checkpoint has it.
    pub fn take_linear_of_head(&self, name: &str, width: i64) -> Option<[Tensor; 2]> {
        let weight = self.read(&format!("{name}.weight"), &[width, width])?;
        Some([weight, self.required(&format!("{name}.bias"), &[width])])
    }

    /// A tensor that belongs to the head, where the checkpoint has it.
    pub fn take_of_head(&self, name: &str, shape: &[i64]) -> Option<Tensor> {
        self.read(name, shape)
    }

    /// A tensor, or a placeholder and a problem where it is missing.
    fn required(&self, name: &str, shape: &[i64]) -> Tensor {
        self.read(name, shape).unwrap_or_else(|| {
            self.problems.borrow_mut().push(format!("missing: {name}, expected shape {shape:?}"));
            self.placeholder(shape)
        })
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
        let surplus = stored.checkpoint.places.keys().filter(|name| {
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
        let is_norm = name.strip_suffix(".weight").is_some_and(|module| module.to_lowercase().ends_with("norm"));
        let centre = if is_norm { 1.0 } else { 0.0 };
        (values + centre).to_device(self.device).to_kind(self.kind)
    }
}

impl Stored<'_> {
    /// Old checkpoints call a LayerNorm's weight and bias gamma and beta.
    fn name_of(&self, name: &str) -> Option<String> {
        // Tensors of the head may stand without the prefix.
        let prefixes = if self.is_prefixed { [self.prefix, ""] } else { ["", ""] };
        let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let names = prefixes.into_iter().flat_map(|prefix| [name, old.as_str()].map(|name| format!("{prefix}{name}")));
        names.into_iter().find(|name| self.checkpoint.places.contains_key(name))
    }

    fn tensor(&self, name: &str, shape: &[i64], device: Device, kind: Kind) -> std::result::Result<Tensor, String> {
        let (file, entry) = self.checkpoint.entry(name).ok_or_else(|| format!("unreadable: {name}"))?;
        if entry.shape != shape {
            return Err(format!("wrong shape: {name} is {:?}, expected {shape:?}", entry.shape));
        }
        file.values(name, entry, device, kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fused_tensors_are_views_with_reserved_zeros_behind_them() {
        let reader = Reader::random(1, Device::Cpu, Kind::Float);
        let names = ["query", "key"].map(|name| reader.take(&format!("{name}.weight"), &[3, 4]));
        let before = names.each_ref().map(|(_, tensor)| tensor.copy());
        let (fused, views) = reader.fuse(&names.map(|(index, _)| index), 5);
        assert_eq!(fused.size(), [11, 9]);
        assert!(before.iter().zip(&views).all(|(before, view)| before == view));
        assert!(reader.weights("").iter().zip(&views).all(|((_, taken), view)| taken.data_ptr() == view.data_ptr()));
        let outside = fused.abs().sum(Kind::Double) - Tensor::cat(&before, 0).abs().sum(Kind::Double);
        assert!(outside.abs().double_value(&[]) < 1e-9);
        // The reserved columns are not part of a view, and a view shares the values.
        let _ = fused.narrow(1, 4, 5).fill_(1.0);
        assert_eq!(before[1], views[1]);
        let _ = views[1].shallow_clone().fill_(2.0);
        assert_eq!(fused.double_value(&[3, 0]), 2.0);
    }
}
