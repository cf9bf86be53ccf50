//! torch 1.6 and later: a zip archive with `data.pkl` and a file for every storage, uncompressed.

use std::collections::BTreeMap;
use std::io::Cursor;

use crate::checkpoint::pickle::machine::Machine;
use crate::checkpoint::pickle::stored::Storages;
use crate::checkpoint::pickle::value::Result;
use crate::checkpoint::tensor_info::TensorInfo;

/// A stored part of an archive.
pub(crate) struct Sum {
    pub name: String,
    pub start: usize,
    pub length: usize,
    pub crc32: u32,
}

/// Tensors of an archive, and its checksums.
pub(crate) fn zipped(data: &[u8]) -> Result<(BTreeMap<String, TensorInfo>, Vec<Sum>)> {
    let mut archive =
        zip::ZipArchive::new(Cursor::new(data)).map_err(|e| format!("it is truncated or no archive ({e})"))?;
    if archive.file_names().any(|name| name.ends_with("/constants.pkl")) {
        let what =
            "it is a TorchScript archive (torch.jit.save), which is a program; save the model with save_pretrained";
        return Err(what.into());
    }
    if !archive.file_names().any(|name| name == "data.pkl" || name.ends_with("/data.pkl")) {
        let names = archive.file_names().take(3).collect::<Vec<_>>().join(", ");
        return Err(format!("it is a zip archive without data.pkl, not one of torch.save (it has {names}); unpack it"));
    }
    let mut sums = Vec::new();
    for number in 0..archive.len() {
        let file = archive.by_index(number).map_err(|e| e.to_string())?;
        let (start, length) = (file.data_start() as usize, file.size() as usize);
        if file.compression() != zip::CompressionMethod::Stored {
            return Err(format!("{} is compressed", file.name()));
        }
        let is_inside = data.get(start..).is_some_and(|rest| rest.len() >= length);
        if !is_inside {
            return Err("it is truncated".into());
        }
        sums.push(Sum { name: file.name().into(), start, length, crc32: file.crc32() });
    }
    let (mut pickle, mut storages) = (None, Storages::new());
    for sum in &sums {
        if sum.name == "data.pkl" || sum.name.ends_with("/data.pkl") {
            pickle = Some(&data[sum.start..sum.start + sum.length]);
        } else if let Some((_, key)) = sum.name.split_once("/data/") {
            storages.insert(key, (sum.start, sum.length));
        }
    }
    let mut machine = Machine::new(pickle.ok_or("it has no data.pkl")?, data.len());
    let state = machine.run()?;
    let index = machine.tensors_of(state, &storages)?;
    // torch.serialization.set_crc32_options(False) leaves every checksum out.
    if sums.iter().all(|sum| sum.crc32 == 0) {
        sums.clear();
    }
    Ok((index, sums))
}
