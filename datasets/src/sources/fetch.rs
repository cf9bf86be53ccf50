//! A task's files from the Hub.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::sources::lock;
use crate::task::Task;

/// Directories with the files of `tasks` by the task's name, fetched where the cache lacks them and held against the lock.
///
/// # Errors
/// [`Error::Missing`] for a task that no repository holds; as [`Hub::dataset`].
pub fn fetch(hub: &Hub, tasks: &[&'static Task]) -> Result<BTreeMap<&'static str, PathBuf>> {
    let mut by_repository: BTreeMap<&str, Vec<(&str, Option<String>)>> = BTreeMap::new();
    let mut homes = Vec::new();
    for &task in tasks {
        let Some((repository, source)) = task.sources.iter().find_map(|source| Some((source.repository?, source)))
        else {
            let help = "Pass the directory that holds them (--glue DIR)".into();
            return Err(Error::Missing { what: format!("files of {} on the Hub", task.title), path: "".into(), help });
        };
        for (set, file) in task.sets.iter().zip(source.files) {
            by_repository.entry(repository).or_default().push((file, lock::file_sum(task, set, source.format)?));
        }
        homes.push((task.name, repository));
    }
    let mut dirs = BTreeMap::new();
    for (repository, files) in by_repository {
        dirs.insert(repository, hub.dataset(repository, &files)?);
    }
    Ok(homes.into_iter().filter_map(|(task, repository)| Some((task, dirs.get(repository)?.clone()))).collect())
}
