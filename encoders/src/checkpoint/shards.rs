//! Files of a checkpoint directory that hold its tensors: one, or shards with their index.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};

/// Files with all weights and indices of their shards, the first that is there counts, as in transformers.
const WEIGHTS: [&str; 4] =
    ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json"];
/// Endings of weights in formats that are not read.
const OTHERS: [&str; 6] = [".h5", ".msgpack", ".gguf", ".onnx", ".ckpt", ".ot"];
pub(crate) const HELP: &str = "download the checkpoint again (a backbone is a directory with config.json, \
                               model.safetensors or pytorch_model.bin, and a tokenizer)";
const HELP_OTHER: &str = "weights are read from model.safetensors or pytorch_model.bin, whole or in shards with their \
                          index; transformers writes them with save_pretrained(directory)";

/// The file with the weights, or the index of their shards; and the files with the tensors.
pub(crate) fn weights(dir: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let unreadable = |path: &Path, reason: String, help| Error::Unreadable { path: path.to_path_buf(), reason, help };
    let Some(name) = WEIGHTS.into_iter().find(|name| dir.join(name).exists()) else {
        return Err(match another(dir) {
            Some(what) => unreadable(dir, what, HELP_OTHER),
            None => unreadable(&dir.join(WEIGHTS[0]), "No such file or directory".into(), HELP),
        });
    };
    let path = dir.join(name);
    if !name.ends_with(".json") {
        return Ok((path.clone(), vec![path]));
    }
    let text = std::fs::read(&path).map_err(|e| unreadable(&path, e.to_string(), HELP))?;
    let index: Value =
        serde_json::from_slice(&text).map_err(|e| unreadable(&path, format!("it is no index of shards: {e}"), HELP))?;
    let map = index["weight_map"].as_object().filter(|map| !map.is_empty());
    let map = map.ok_or_else(|| unreadable(&path, "it has no weight_map with tensors and their files".into(), HELP))?;
    let mut shards = BTreeSet::new();
    for (tensor, shard) in map {
        let shard = shard.as_str().filter(|shard| is_plain(shard)).ok_or_else(|| {
            unreadable(
                &path,
                format!("weight_map gives {tensor} to {shard}, expected the name of a file beside it"),
                HELP,
            )
        })?;
        shards.insert(dir.join(shard));
    }
    match shards.iter().find(|shard| !shard.exists()) {
        Some(missing) => {
            let reason = format!("No such file or directory; {name} names it as one of {} shards", shards.len());
            Err(unreadable(missing, reason, "download the missing shard"))
        }
        None => Ok((path, shards.into_iter().collect())),
    }
}

/// One name, without folders.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
}

/// Files that lie in a directory in place of weights that are read.
fn another(dir: &Path) -> Option<String> {
    let names = std::fs::read_dir(dir).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = names.collect();
    names.sort();
    let is_shard = |name: &&String| {
        name.contains("-of-") && ["model-", "pytorch_model-"].iter().any(|start| name.starts_with(start))
    };
    if let Some(shard) = names.iter().find(is_shard) {
        return Some(format!(
            "it has shards of the weights ({shard}), but not their index (model.safetensors.index.json)"
        ));
    }
    let other = names.iter().find(|name| OTHERS.iter().any(|ending| name.ends_with(ending)))?;
    Some(format!("its weights are in a format that is not read ({other})"))
}
