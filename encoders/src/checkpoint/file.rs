//! A file of named tensors, memory-mapped: safetensors, or a file of `torch.save`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, UncheckedAdvice};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tch::{Device, Kind, Tensor};

use crate::checkpoint::content::{self, Format};
use crate::checkpoint::pickle;
use crate::checkpoint::tensor_info::TensorInfo;
use crate::error::{Error, Result, caught};

/// Bytes read from the map before its pages are given back.
const CHUNK: usize = 16 << 20;
/// Bytes that the tensors of a file may hold, for each byte of the file: tensors may share their values.
const MOST: usize = 4;
/// Bytes that the tensors of a small file may hold.
const LEAST: usize = 1 << 20;
const HELP: &str = "where it was downloaded, download it again";

/// The opened file.
pub struct TensorFile {
    path: PathBuf,
    map: Mmap,
    index: BTreeMap<String, TensorInfo>,
}

impl TensorFile {
    /// Maps a file; what ends in `.bin` is a pickle, which is indexed and never executed.
    ///
    /// # Errors
    /// It is missing, truncated, damaged or of another format than its name says.
    pub fn open(path: &Path) -> Result<Self> {
        let unreadable =
            |reason: String, help: &'static str| Error::Unreadable { path: path.to_path_buf(), reason, help };
        let io = |e: std::io::Error| unreadable(e.to_string(), HELP);
        let file = File::open(path).map_err(io)?;
        // SAFETY: the file is only read; it is not expected to change while it is loaded.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let is_pickle = path.extension().is_some_and(|ending| ending == "bin");
        let expected = if is_pickle { Format::Pickle } else { Format::Safetensors };
        let index = caught(path, || {
            let index = if is_pickle { pickled(&map) } else { safetensors_index(&map) };
            index.and_then(|index| fitting(index, map.len())).map_err(|reason| {
                match content::recognise(&map).filter(|found| found.format != expected) {
                    Some(found) => unreadable(found.what.into(), found.help),
                    None => unreadable(reason, HELP),
                }
            })
        })?;
        Ok(TensorFile { index, path: path.to_path_buf(), map })
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of its tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    /// A tensor in float32, by its name in the file; every value must be finite.
    ///
    /// # Errors
    /// No such tensor, one of another type, NaN or infinity: with the tensor's name.
    pub fn read(&self, name: &str) -> std::result::Result<Tensor, String> {
        let entry = self.index.get(name).ok_or_else(|| format!("unreadable: {name}"))?;
        self.values(name, entry, Device::Cpu, Kind::Float)
    }

    pub(crate) fn index(&self) -> &BTreeMap<String, TensorInfo> {
        &self.index
    }

    pub(crate) fn values(
        &self,
        name: &str,
        entry: &TensorInfo,
        device: Device,
        kind: Kind,
    ) -> std::result::Result<Tensor, String> {
        if !matches!(entry.kind, Kind::Double | Kind::Float | Kind::Half | Kind::BFloat16) {
            return Err(format!("wrong type: {name} is {:?}, expected floating point", entry.kind));
        }
        let tensor = copied(&self.map, entry);
        let tensor = tensor.and_then(|t| t.f_to_device(device)).and_then(|t| t.f_to_kind(kind));
        let tensor = tensor.map_err(|e| format!("unreadable: {name} ({e})"))?;
        if is_finite(&tensor) { Ok(tensor) } else { Err(format!("not finite: {name} holds NaN or infinity")) }
    }
}

/// Whether every value of a tensor is a number.
pub fn is_finite(tensor: &Tensor) -> bool {
    if tensor.numel() == 0 {
        return true;
    }
    let (least, most) = tensor.aminmax(None, false);
    [least, most].iter().all(|bound| bound.double_value(&[]).is_finite())
}

/// Content of a file that was to be a JSON object and is something else, and what to do.
pub fn foreign(data: &[u8]) -> Option<String> {
    let is_object = |text: &str| text.trim_start_matches('\u{feff}').trim_start().starts_with('{');
    if std::str::from_utf8(data).is_ok_and(is_object) {
        return None;
    }
    content::recognise(data).map(|found| format!("{}; {}", found.what, found.help))
}

/// Refuses tensors that hold far more values than the file has.
fn fitting(
    index: BTreeMap<String, TensorInfo>,
    file: usize,
) -> std::result::Result<BTreeMap<String, TensorInfo>, String> {
    let bytes = |entry: &TensorInfo| {
        let count = entry.shape.iter().try_fold(1usize, |all, &n| all.checked_mul(usize::try_from(n).ok()?));
        count.and_then(|count| count.checked_mul(entry.kind.elt_size_in_bytes()))
    };
    let all = index.values().try_fold(0usize, |all, entry| all.checked_add(bytes(entry)?));
    match all {
        Some(all) if all <= file.saturating_mul(MOST).saturating_add(LEAST) => Ok(index),
        _ => Err(format!("its tensors hold far more values than its {file} bytes")),
    }
}

fn pickled(map: &Mmap) -> std::result::Result<BTreeMap<String, TensorInfo>, String> {
    let found = pickle::index::index(map)?;
    for sum in &found.sums {
        let mut hash = crc32fast::Hasher::new();
        for (index, chunk) in map[sum.start..sum.start + sum.length].chunks(CHUNK).enumerate() {
            hash.update(chunk);
            give_back(map, sum.start + index * CHUNK, chunk.len());
        }
        if hash.finalize() != sum.crc32 {
            return Err(format!("{} is damaged: its checksum (CRC-32) is not the archive's", sum.name));
        }
    }
    Ok(found.index)
}

fn safetensors_index(map: &Mmap) -> std::result::Result<BTreeMap<String, TensorInfo>, String> {
    let tensors = SafeTensors::deserialize(map).map_err(|e| format!("it is truncated or no safetensors file ({e})"))?;
    let entry = |(name, view): (String, TensorView)| {
        let kind = match view.dtype() {
            Dtype::F64 => Kind::Double,
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::I64 => Kind::Int64,
            Dtype::I32 => Kind::Int,
            Dtype::I16 => Kind::Int16,
            Dtype::I8 => Kind::Int8,
            Dtype::BOOL => Kind::Bool,
            Dtype::U8 => Kind::Uint8,
            other => return Err(format!("{name} has the unknown type {other:?}")),
        };
        let shape = view.shape().iter().map(|&n| n as i64).collect();
        let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
        Ok((name, TensorInfo { kind, shape, strides: None, start, length: view.data().len() }))
    };
    tensors.tensors().into_iter().map(entry).collect()
}

/// Copies a tensor out of the map chunk by chunk and gives the map's pages back as it goes, so that a checkpoint is in
/// memory once, not twice.
fn copied(map: &Mmap, entry: &TensorInfo) -> std::result::Result<Tensor, tch::TchError> {
    let size = entry.kind.elt_size_in_bytes();
    let flat = Tensor::f_empty([(entry.length / size) as i64], (entry.kind, Device::Cpu))?;
    let data = &map[entry.start..entry.start + entry.length / size * size];
    for (index, chunk) in data.chunks(CHUNK).enumerate() {
        // SAFETY: the new tensor is contiguous and has as many bytes as `data`.
        unsafe {
            let target = flat.data_ptr().cast::<u8>().add(index * CHUNK);
            std::ptr::copy_nonoverlapping(chunk.as_ptr(), target, chunk.len());
        }
        give_back(map, entry.start + index * CHUNK, chunk.len());
    }
    match &entry.strides {
        None => flat.f_view(entry.shape.as_slice()),
        Some(strides) => flat.f_as_strided(&entry.shape, strides, 0)?.f_contiguous(),
    }
}

fn give_back(map: &Mmap, start: usize, length: usize) {
    // SAFETY: the map is read-only and backed by the file, so a page that is given back is read again when needed.
    let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, length) };
}
