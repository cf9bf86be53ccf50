//! Files from the Hugging Face Hub: backbones and GLUE, into the cache that Python shares.
//!
//! Downloads are `hf-hub`'s; what it lacks is here: the environment's `HF_TOKEN`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE`,
//! pinned revisions, checksums, retries with back-off, and an end to a connection that no longer gives anything.

mod env;
mod pins;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::{Cache, Repo, RepoType};

use self::env::Environment;
pub use self::transfer::Event;
use self::transfer::Transfer;
use crate::dataset::Set;
use crate::error::{Error, Result};
use crate::sources::load;
use crate::sources::lock;
use crate::task::Task;
use crate::tokenizer;

/// The repository with GLUE's parquet files.
const GLUE: &str = "nyu-mll/glue";
/// Files with weights, the better one first.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
/// Which shards hold the weights where they lie in several files.
const INDEX: &str = "model.safetensors.index.json";
/// Where Python's client notes files that a revision does not have.
const NO_EXIST: &str = ".no_exist";

/// How the Hub is reached; [`Settings::from_env`] reads what Python's client reads.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Server; the public one where it is `None` (`HF_ENDPOINT`).
    pub endpoint: Option<String>,
    /// Cache in the layout Python shares (`HF_HUB_CACHE`, or `hub` below `HF_HOME`, or `~/.cache/huggingface/hub`).
    pub cache: PathBuf,
    /// Token (`HF_TOKEN`, or the file `HF_TOKEN_PATH`, or `token` below `HF_HOME`).
    pub token: Option<String>,
    /// Whether only the cache is used (`HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`).
    pub is_offline: bool,
    /// Attempts at one file.
    pub attempts: u32,
    /// Wait before the second attempt; it doubles with each further one.
    pub first_wait: Duration,
    /// How long a connection may give nothing.
    pub patience: Duration,
}

impl Settings {
    /// What the environment says.
    pub fn from_env() -> Self {
        let environment = Environment(|name: &str| std::env::var(name).ok());
        Settings {
            endpoint: environment.endpoint(),
            cache: environment.cache(),
            token: environment.token(),
            is_offline: environment.is_offline(),
            attempts: 5,
            first_wait: Duration::from_secs(1),
            patience: Duration::from_secs(60),
        }
    }
}

/// A way to the Hub.
pub struct Hub {
    settings: Settings,
    notify: Box<dyn Fn(Event)>,
}

/// One repository at one revision.
pub(crate) struct Place {
    pub repo: Repo,
    pub id: String,
    pub revision: String,
    pub flag: &'static str,
}

impl Place {
    fn new(kind: RepoType, id: &str, revision: &str) -> Self {
        let flag = match kind {
            RepoType::Model => "--backbone DIR",
            _ => "--glue DIR (--micro takes the embedded synthetic data instead)",
        };
        let repo = Repo::with_revision(id.into(), kind, revision.into());
        Place { repo, id: id.into(), revision: revision.into(), flag }
    }

    /// The cached snapshot's directory, where the revision is known there.
    fn snapshot(&self, cache: &Path) -> Option<PathBuf> {
        let folder = cache.join(self.repo.folder_name());
        let is_commit = self.revision.len() == 40 && self.revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        let commit = match is_commit {
            true => self.revision.clone(),
            false => std::fs::read_to_string(folder.join("refs").join(&self.revision)).ok()?.trim().to_string(),
        };
        is_plain(&commit).then(|| folder.join("snapshots").join(commit))
    }

    /// Where it is noted that the revision lacks a file.
    fn absent(&self, dir: &Path, file: &str) -> Option<PathBuf> {
        let (snapshots, commit) = (dir.parent()?, dir.file_name()?);
        Some(snapshots.parent()?.join(NO_EXIST).join(commit).join(file))
    }

    /// Notes which of the files that decide ids the revision lacks, as Python's client does. Without the note the list is
    /// asked for again.
    fn remember_absent(&self, dir: &Path, there: &[String]) {
        for file in tokenizer::FILES.into_iter().chain(tokenizer::OPTION_FILES) {
            let note = self.absent(dir, file).filter(|_| !there.iter().any(|known| known == file));
            if let Some(note) = note
                && note.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok())
            {
                let _ = std::fs::File::create(note);
            }
        }
    }

    /// Files that may decide ids and of which the cache does not know whether the revision has them.
    fn open(&self, dir: &Path) -> Vec<&'static str> {
        let is_open =
            |file: &&str| !dir.join(file).is_file() && !self.absent(dir, file).is_some_and(|note| note.exists());
        tokenizer::deciding_files(dir).into_iter().filter(is_open).collect()
    }

    /// Notes the commit of a branch, as Python's client does. Without the note the branch is asked for again.
    fn remember(&self, cache: &Path, commit: &str) {
        let _ = Cache::new(cache.to_path_buf()).repo(self.repo.clone()).create_ref(commit);
    }
}

/// Whether a backbone's name is one of a repository on the Hub: `owner/name` or `owner/name@revision`. What does not look
/// like one, or has a revision that would lead out of the cache, is none.
pub fn is_repository(name: &str) -> bool {
    let (id, revision) = name.split_once('@').map_or((name, None), |(id, revision)| (id, Some(revision)));
    let is_name = |part: &str| is_plain(part) && !part.contains("..") && !part.contains("--");
    id.split_once('/').is_some_and(|(owner, name)| is_name(owner) && is_name(name))
        && revision.is_none_or(|revision| revision.split('/').all(is_plain))
}

/// Whether a name is one part of a path and nothing else.
pub fn is_plain(part: &str) -> bool {
    !part.is_empty() && !part.starts_with('.') && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c))
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
        let place = Place::new(RepoType::Model, id, revision.unwrap_or(&pins.revision));
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
            wanting(
                e,
                format!("config.json, {} and a tokenizer ({})", WEIGHTS.join(" or "), tokenizer::FILES.join(", ")),
            )
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
        let small = ["config.json"].into_iter().chain(tokenizer::OPTION_FILES).chain(tokenizer::FILES).filter(has);
        // All files of one commit, also where a branch moves meanwhile. The weights come last, so that a snapshot that has
        // them is whole.
        let at_commit = Place::new(RepoType::Model, id, &commit);
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

    /// The directory with the parquet files of `tasks`, each held against the lock.
    ///
    /// # Errors
    /// As [`Hub::model`].
    pub fn glue(&self, tasks: &[&'static Task]) -> Result<PathBuf> {
        let pins = pins::dataset(GLUE)?;
        let place = Place::new(RepoType::Dataset, GLUE, &pins.revision);
        let transfer = Transfer { settings: &self.settings, place: &place, notify: self.notify.as_ref() };
        let sets = tasks.iter().flat_map(|&task| {
            let sets = [Set::Train].into_iter().chain(task.dev_sets.iter().map(Set::Dev));
            sets.map(move |set| Ok((load::parquet_path(set, task), lock::parquet_sum(task, set)?)))
        });
        let files = sets.collect::<Result<Vec<_>>>()?;
        let mut dir = place.snapshot(&self.settings.cache).unwrap_or_default();
        for (index, (file, sha256)) in files.iter().enumerate() {
            let open = || files[index..].iter().map(|(file, _)| file.as_str()).collect::<Vec<_>>().join(", ");
            let path = transfer.fetch(file, sha256.as_deref()).map_err(|e| wanting(e, open()))?;
            dir = path.ancestors().nth(2).map_or(dir, Path::to_path_buf);
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
    let [spm, json, wordpiece, vocabulary, merges] = tokenizer::FILES.map(has);
    let has_tokenizer = spm || json || wordpiece || (vocabulary && merges);
    let has_shards = || has(INDEX) && shards(dir).is_ok_and(|shards| shards.iter().all(|shard| has(shard)));
    has("config.json") && (WEIGHTS.into_iter().any(has) || has_shards()) && has_tokenizer
}
