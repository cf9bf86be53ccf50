//! Files from the Hugging Face Hub: backbones and GLUE, into the cache that Python shares.
//!
//! Downloads are `hf-hub`'s; what it lacks is here: the environment's `HF_TOKEN`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE`,
//! pinned revisions, checksums, retries with back-off, and an end to a connection that no longer gives anything.

mod checksum;
mod env;
mod failure;
mod names;
mod pins;
mod revision;
mod settings;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use hf_hub::RepoType;

pub use self::names::{is_plain, is_repository};
use self::revision::RepoRevision;
pub use self::settings::Settings;
pub use self::transfer::Event;
use self::transfer::Transfer;
use crate::error::{Error, Result};
use crate::tokenizer::files::{FILES, OPTION_FILES};

/// Files with weights, the better one first.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
/// Which shards hold the weights where they lie in several files.
const INDEX: &str = "model.safetensors.index.json";

/// A way to the Hub.
pub struct Hub {
    settings: Settings,
    notify: Box<dyn Fn(Event)>,
}

impl Hub {
    /// A way to the Hub that tells `notify` how downloads go.
    pub fn new(settings: Settings, notify: impl Fn(Event) + 'static) -> Self {
        Hub { settings, notify: Box::new(notify) }
    }

    /// The directory of a checkpoint, `owner/name` at its pinned revision (or `main`), or `owner/name@revision`:
    /// `config.json`, the weights and the tokenizer's files. What is cached is not fetched again.
    ///
    /// # Errors
    /// [`crate::error::Error::Hub`] with what is wanted and where it may be placed by hand.
    pub fn model(&self, name: &str) -> Result<PathBuf> {
        let (id, revision) = name.split_once('@').map_or((name, None), |(id, revision)| (id, Some(revision)));
        let pins = pins::model(id)?;
        let place = RepoRevision::new(RepoType::Model, id, revision.unwrap_or(&pins.revision));
        // Sums hold for the pinned revision alone.
        let sums = if place.revision == pins.revision { pins.files } else { BTreeMap::new() };
        let sum = |file: &str| sums.get(file).map(String::as_str);
        let transfer = Transfer { settings: &self.settings, place: &place, notify: self.notify.as_ref() };
        if !is_repository(&format!("{id}@{}", place.revision)) {
            let reason = "it is no owner/name@revision".to_string();
            return Err(transfer.error("a repository".into(), reason, "Correct the name"));
        }
        let cached = place.snapshot(&self.settings.cache).filter(|dir| is_whole(dir));
        let open = cached.as_ref().map_or(Vec::new(), |dir| place.open(dir));
        if !open.is_empty() && self.settings.is_offline {
            let reason = "the cache does not say whether the repository has them, they decide token ids, and \
                          HF_HUB_OFFLINE is set";
            let help = "Unset it once, so that they are fetched or noted as absent";
            return Err(transfer.error(open.join(", "), reason.into(), help));
        }
        if let Some(dir) = cached.filter(|_| open.is_empty()) {
            for file in sums.keys().filter(|file| dir.join(file).is_file()) {
                transfer.fetch(file, sum(file))?;
            }
            return Ok(dir);
        }
        let (commit, there) = transfer.list().map_err(|e| {
            wanting(e, format!("config.json, {} and a tokenizer ({})", WEIGHTS.join(" or "), FILES.join(", ")))
        })?;
        if !is_plain(&commit) {
            let reason = format!("the server calls its commit {commit:?}");
            return Err(transfer.error("the list of files".into(), reason, "Check HF_ENDPOINT"));
        }
        let has = |file: &&str| there.iter().any(|known| known == file);
        let weights = WEIGHTS.iter().copied().find(|file| has(file) && !(*file == WEIGHTS[1] && has(&INDEX)));
        let weights = weights.or(Some(INDEX).filter(has)).ok_or_else(|| {
            transfer.error(WEIGHTS.join(" or "), "the repository has no such file".into(), "Choose another backbone")
        })?;
        if weights == WEIGHTS[1] && !sums.is_empty() && sum(weights).is_none() {
            (self.notify)(Event::Unpinned { file: format!("{id}/{weights}") });
        }
        let small = ["config.json"].into_iter().chain(OPTION_FILES).chain(FILES).filter(has);
        // All files of one commit, also where a branch moves meanwhile. The weights come last, so that a snapshot that has
        // them is whole.
        let at_commit = RepoRevision::new(RepoType::Model, id, &commit);
        let transfer = Transfer { place: &at_commit, ..transfer };
        let mut dir = PathBuf::new();
        for file in small.chain([weights]) {
            let path = transfer.fetch(file, sum(file))?;
            dir = path.parent().map_or(dir, Path::to_path_buf);
        }
        if weights == INDEX {
            for shard in shards(&dir)? {
                transfer.fetch(&shard, sum(&shard))?;
            }
        }
        place.remember_absent(&dir, &there);
        place.remember(&self.settings.cache, &commit);
        Ok(dir)
    }

    /// The directory of a repository of data at its pinned revision (or `main`) with these files, each held against its
    /// sha256 where one is given, else against the sum that the Hub gives.
    ///
    /// # Errors
    /// As [`Hub::model`].
    pub fn dataset(&self, id: &str, files: &[(&str, Option<String>)]) -> Result<PathBuf> {
        let pins = pins::dataset(id)?;
        let place = RepoRevision::new(RepoType::Dataset, id, &pins.revision);
        let transfer = Transfer { settings: &self.settings, place: &place, notify: self.notify.as_ref() };
        let mut dir = place.snapshot(&self.settings.cache).unwrap_or_default();
        for (index, (file, sha256)) in files.iter().enumerate() {
            let open = || files[index..].iter().map(|(file, _)| *file).collect::<Vec<_>>().join(", ");
            let path = transfer.fetch(file, sha256.as_deref()).map_err(|e| wanting(e, open()))?;
            dir = path.ancestors().nth(file.split('/').count()).map_or(dir, Path::to_path_buf);
        }
        Ok(dir)
    }
}

/// The error with everything that is still wanted, where what failed is not one file's own fault.
fn wanting(error: Error, all: String) -> Error {
    match error {
        Error::Hub { repository, revision, reason, help, .. } => {
            Error::Hub { wanted: all, repository, revision, reason, help }
        }
        other => other,
    }
}

/// Names of the files that the index of sharded weights lists.
fn shards(dir: &Path) -> Result<Vec<String>> {
    let path = dir.join(INDEX);
    let corrupt = |detail: String| Error::Corrupt {
        path: path.clone(),
        format: "an index of weights",
        detail,
        help: "Delete it, and it is fetched again".into(),
    };
    let bytes = std::fs::read(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
    let index: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| corrupt(e.to_string()))?;
    let map = index["weight_map"].as_object().ok_or_else(|| corrupt("it has no weight_map".into()))?;
    let names: BTreeSet<&str> = map.values().filter_map(serde_json::Value::as_str).collect();
    match names.iter().find(|name| !is_plain(name)) {
        Some(name) => Err(corrupt(format!("{name:?} is no file beside it"))),
        None => Ok(names.into_iter().map(str::to_string).collect()),
    }
}

fn is_whole(dir: &Path) -> bool {
    let has = |file: &str| dir.join(file).is_file();
    let [spm, json, wordpiece, vocabulary, merges] = FILES.map(has);
    let has_tokenizer = spm || json || wordpiece || (vocabulary && merges);
    let has_shards = || has(INDEX) && shards(dir).is_ok_and(|shards| shards.iter().all(|shard| has(shard)));
    has("config.json") && (WEIGHTS.into_iter().any(has) || has_shards()) && has_tokenizer
}
