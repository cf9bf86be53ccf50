//! One file of one repository, with retries, a watch over the connection and checksums.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};

use crate::error::{Error, Result};
use crate::hub::checksum::mismatch;
use crate::hub::failure::{Failure, failure};
use crate::hub::revision::RepoRevision;
use crate::hub::settings::Settings;

/// How a download goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A file of so many bytes is begun or resumed.
    Started {
        /// Its name, repository first.
        file: String,
        /// All its bytes.
        size: u64,
    },
    /// So many bytes more are there.
    Advanced(u64),
    /// The file is there.
    Finished,
    /// A pinned repository's file of which no published sum is known.
    Unpinned {
        /// Its name, repository first.
        file: String,
    },
    /// An attempt failed; the next one comes after a wait.
    Retrying {
        /// Its reason.
        reason: String,
        /// How long it waits.
        wait: Duration,
    },
}

/// Another process holds the file for no longer than this.
const LONGEST_LOCK: Duration = Duration::from_secs(3600);

/// Transfers of one repository.
#[derive(Clone, Copy)]
pub(super) struct Transfer<'a> {
    pub settings: &'a Settings,
    pub place: &'a RepoRevision,
    pub notify: &'a dyn Fn(Event),
}

/// Message of the thread at work.
enum Message<T> {
    Event(Event),
    Ended(std::result::Result<T, ApiError>),
}

struct Watch<T> {
    sender: Sender<Message<T>>,
    file: String,
}

impl<T> Watch<T> {
    /// Nobody listens any more once the connection was given up.
    fn say(&self, event: Event) {
        let _ = self.sender.send(Message::Event(event));
    }
}

impl<T> Progress for Watch<T> {
    fn init(&mut self, size: usize, _filename: &str) {
        self.say(Event::Started { file: self.file.clone(), size: size as u64 });
    }

    fn update(&mut self, size: usize) {
        self.say(Event::Advanced(size as u64));
    }

    fn finish(&mut self) {}
}

impl Transfer<'_> {
    /// The commit that the revision stands for, and the names of its files.
    pub fn list(&self) -> Result<(String, Vec<String>)> {
        let repo = self.place.repo.clone();
        let wanted = "the list of files";
        self.persist(wanted, || {
            let repo = repo.clone();
            let info = self.watched(wanted, move |api, _| api.repo(repo).info())?;
            Ok((info.sha, info.siblings.into_iter().map(|sibling| sibling.rfilename).collect()))
        })
    }

    /// Where `file` lies in the cache, fetched if it is not there yet. `sha256` is what it must have, where that is
    /// known; else the sum that the Hub gives.
    pub fn fetch(&self, file: &str, sha256: Option<&str>) -> Result<PathBuf> {
        let cached = self.place.snapshot(&self.settings.cache).map(|dir| dir.join(file)).filter(|path| path.is_file());
        if let Some(path) = cached {
            return match mismatch(&path, sha256) {
                None => Ok(path),
                Some(problem) => Err(self.error(
                    file.into(),
                    format!("{} in the cache is another file: {problem}", path.display()),
                    "Delete it, and it is fetched again",
                )),
            };
        }
        let (repo, name) = (self.place.repo.clone(), file.to_string());
        let path = self.persist(file, || {
            let (repo, name) = (repo.clone(), name.clone());
            let path = self.watched(file, move |api, watch| api.repo(repo).download_with_progress(&name, watch))?;
            self.verify(&path, sha256)?;
            Ok(path)
        })?;
        (self.notify)(Event::Finished);
        Ok(path)
    }

    /// Makes an attempt until one succeeds, or none is left.
    fn persist<T>(&self, wanted: &str, attempt: impl Fn() -> std::result::Result<T, Failure>) -> Result<T> {
        if self.settings.is_offline {
            let reason = "it is not in the cache, and HF_HUB_OFFLINE is set".to_string();
            return Err(self.error(wanted.into(), reason, "Unset it"));
        }
        if let Some(stranger) =
            self.settings.token.as_ref().and_then(|token| token.chars().find(|c| !c.is_ascii_graphic()))
        {
            let reason =
                format!("the token (HF_TOKEN, or the file of it) holds {stranger:?}, which no header may carry");
            return Err(self.error(wanted.into(), reason, "Set HF_TOKEN to the token alone"));
        }
        if let Err(error) = self.try_cache() {
            let reason = format!("the cache {} cannot be written: {error}", self.settings.cache.display());
            return Err(self.error(
                wanted.into(),
                reason,
                "Make it writable, or set HF_HUB_CACHE to a directory that is",
            ));
        }
        let (started, mut made) = (Instant::now(), 0);
        loop {
            let attempted = attempt();
            if let Err(Failure::Parts(_)) = attempted {
                self.drop_parts();
            }
            let is_unreachable = matches!(attempted, Err(Failure::Unreachable(_)));
            let (reason, wait) = match attempted {
                Ok(done) => return Ok(done),
                Err(Failure::Final(reason, help)) => return Err(self.error(wanted.into(), reason, help)),
                Err(Failure::Locked) if started.elapsed() < LONGEST_LOCK => {
                    ("another process is fetching it".to_string(), Duration::ZERO)
                }
                Err(Failure::Locked) => {
                    let reason = "another process has been fetching it for an hour".to_string();
                    return Err(self.error(wanted.into(), reason, "End that process, and delete its lock file"));
                }
                Err(Failure::Passing(reason) | Failure::Unreachable(reason) | Failure::Parts(reason)) => {
                    made += 1;
                    if made >= self.settings.attempts && is_unreachable {
                        let help = "Without a network set HF_HUB_OFFLINE=1, which takes what is cached; else check the \
                                    network (proxies are taken from HTTPS_PROXY)";
                        return Err(self.error(wanted.into(), format!("{reason} ({made} attempts)"), help));
                    }
                    if made >= self.settings.attempts {
                        let help = "Check the network (proxies are taken from HTTPS_PROXY), or try again later: what was \
                                    fetched is kept";
                        return Err(self.error(wanted.into(), format!("{reason} ({made} attempts)"), help));
                    }
                    (reason, self.settings.first_wait * 2u32.pow(made - 1))
                }
            };
            (self.notify)(Event::Retrying { reason, wait });
            std::thread::sleep(wait);
        }
    }

    /// Writes and deletes a file where downloads go.
    fn try_cache(&self) -> std::io::Result<()> {
        let blobs = self.blobs();
        std::fs::create_dir_all(&blobs)?;
        let probe = blobs.join(format!(".probe-{}-{:?}", std::process::id(), std::thread::current().id()));
        File::create(&probe)?;
        std::fs::remove_file(&probe)
    }

    /// Runs a request in a thread of its own and gives up when it says nothing for too long: the library sets no time
    /// limits.
    fn watched<T: Send + 'static>(
        &self,
        file: &str,
        request: impl FnOnce(Api, Watch<T>) -> std::result::Result<T, ApiError> + Send + 'static,
    ) -> std::result::Result<T, Failure> {
        let api = self.api().map_err(failure)?;
        let (sender, receiver) = mpsc::channel();
        let watch = Watch { sender: sender.clone(), file: format!("{}/{file}", self.place.id) };
        std::thread::spawn(move || {
            let _ = sender.send(Message::Ended(request(api, watch)));
        });
        loop {
            match receiver.recv_timeout(self.settings.patience) {
                Ok(Message::Event(event)) => (self.notify)(event),
                Ok(Message::Ended(result)) => return result.map_err(failure),
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = self.settings.patience.as_secs();
                    return Err(Failure::Final(
                        format!("the server has sent nothing for {seconds} s"),
                        "Try again: what was fetched is kept",
                    ));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::Passing("the download broke off".into())),
            }
        }
    }

    fn api(&self) -> std::result::Result<Api, ApiError> {
        let Settings { endpoint, cache, token, .. } = self.settings;
        let builder = ApiBuilder::new().with_cache_dir(cache.clone()).with_token(token.clone()).with_progress(false);
        match endpoint {
            Some(endpoint) => builder.with_endpoint(endpoint.clone()).build(),
            None => builder.build(),
        }
    }

    fn blobs(&self) -> PathBuf {
        self.settings.cache.join(self.place.repo.folder_name()).join("blobs")
    }

    /// Drops partial files, so that the next attempt starts anew.
    fn drop_parts(&self) {
        for entry in std::fs::read_dir(self.blobs()).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "part") {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// A file just fetched that is not what it should be is taken away again.
    fn verify(&self, path: &Path, sha256: Option<&str>) -> std::result::Result<(), Failure> {
        let Some(problem) = mismatch(path, sha256) else { return Ok(()) };
        if let Ok(blob) = path.canonicalize() {
            let _ = std::fs::remove_file(blob);
        }
        let _ = std::fs::remove_file(path);
        Err(Failure::Passing(problem))
    }

    /// The error that names what is wanted, why it cannot be had, and how to do without the Hub.
    pub fn error(&self, wanted: String, reason: String, help: &str) -> Error {
        let folder = self
            .place
            .snapshot(&self.settings.cache)
            .unwrap_or_else(|| self.settings.cache.join(self.place.repo.folder_name()));
        let help = format!(
            "{help}. By hand: put the files of {} at revision {} into {}, or into any directory and pass {}",
            self.place.id,
            self.place.revision,
            folder.display(),
            self.place.flag
        );
        Error::Hub { wanted, repository: self.place.id.clone(), revision: self.place.revision.clone(), reason, help }
    }
}
