//! One repository at one revision, in the cache that Python shares.

use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};

use crate::hub::names::is_plain;
use crate::tokenizer::deciding::deciding_files;
use crate::tokenizer::files::{FILES, OPTION_FILES};

/// Where Python's client notes files that a revision does not have.
const NO_EXIST: &str = ".no_exist";

/// One repository at one revision.
pub(crate) struct RepoRevision {
    pub repo: Repo,
    pub id: String,
    pub revision: String,
    pub flag: &'static str,
}

impl RepoRevision {
    pub fn new(kind: RepoType, id: &str, revision: &str) -> Self {
        let flag = match kind {
            RepoType::Model => "--backbone DIR",
            _ => "--glue DIR (--micro takes the embedded synthetic data instead)",
        };
        let repo = Repo::with_revision(id.into(), kind, revision.into());
        RepoRevision { repo, id: id.into(), revision: revision.into(), flag }
    }

    /// The cached snapshot's directory, where the revision is known there.
    pub fn snapshot(&self, cache: &Path) -> Option<PathBuf> {
        let folder = cache.join(self.repo.folder_name());
        let is_commit = self.revision.len() == 40 && self.revision.bytes().all(|byte| byte.is_ascii_hexdigit());
        let commit = match is_commit {
            true => self.revision.clone(),
            false => std::fs::read_to_string(folder.join("refs").join(&self.revision)).ok()?.trim().to_string(),
        };
        is_plain(&commit).then(|| folder.join("snapshots").join(commit))
    }

    /// Where it is noted that the revision lacks a file.
    pub fn absent(&self, dir: &Path, file: &str) -> Option<PathBuf> {
        let (snapshots, commit) = (dir.parent()?, dir.file_name()?);
        Some(snapshots.parent()?.join(NO_EXIST).join(commit).join(file))
    }

    /// Notes which of the files that decide ids the revision lacks, as Python's client does. Without the note the list is
    /// asked for again.
    pub fn remember_absent(&self, dir: &Path, there: &[String]) {
        for file in FILES.into_iter().chain(OPTION_FILES) {
            let note = self.absent(dir, file).filter(|_| !there.iter().any(|known| known == file));
            if let Some(note) = note
                && note.parent().is_some_and(|folder| std::fs::create_dir_all(folder).is_ok())
            {
                let _ = std::fs::File::create(note);
            }
        }
    }

    /// Files that may decide ids and of which the cache does not know whether the revision has them.
    pub fn open(&self, dir: &Path) -> Vec<&'static str> {
        let is_open =
            |file: &&str| !dir.join(file).is_file() && !self.absent(dir, file).is_some_and(|note| note.exists());
        deciding_files(dir).into_iter().filter(is_open).collect()
    }

    /// Notes the commit of a branch, as Python's client does. Without the note the branch is asked for again.
    pub fn remember(&self, cache: &Path, commit: &str) {
        let _ = Cache::new(cache.to_path_buf()).repo(self.repo.clone()).create_ref(commit);
    }
}
