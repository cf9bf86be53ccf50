//! Files of a store: written whole or not at all, CSV and JSON.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::store::holder;

/// Ending of a file that is being written.
pub const PARTIAL: &str = ".partial";

/// Writes rows as a CSV file, through a temporary name.
///
/// # Errors
/// The file cannot be written.
pub fn write_csv<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    write_atomically(path, &csv_bytes(&path.to_string_lossy(), rows)?)
}

/// Rows as the bytes of a CSV file.
///
/// # Errors
/// A row that cannot be written as CSV.
pub fn csv_bytes<T: Serialize>(name: &str, rows: &[T]) -> Result<Vec<u8>> {
    let internal = |e: String| Error::Internal(format!("{name}: {e}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(|e| internal(e.to_string()))?;
    }
    writer.into_inner().map_err(|e| internal(e.to_string()))
}

/// Writes `bytes` to `path` so that a reader sees all of it or nothing, even after a power cut.
///
/// # Errors
/// The file cannot be written.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, fs::File::sync_all)?;
    sync_parent(path);
    Ok(())
}

/// The same without waiting for the disk: a power cut may leave anything, until [`sync_files`].
///
/// # Errors
/// The file cannot be written.
pub fn write_unsynced(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, |_| Ok(()))
}

/// Waits until files of a directory, and their names in it and in its folders, are on the disk: all at once, since a file system
/// writes for many as long as for one.
///
/// # Errors
/// A file that could not be written.
pub fn sync_files(dir: &Path, names: &[impl AsRef<Path>]) -> Result<()> {
    let paths: Vec<PathBuf> = names.iter().map(|name| dir.join(name)).collect();
    let sync = |path: &Path| fs::File::open(path).and_then(|file| file.sync_all()).map_err(|e| Error::output(path, e));
    thread::scope(|scope| {
        let threads: Vec<_> = paths.iter().map(|path| scope.spawn(move || sync(path))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })?;
    // One file stands for all of its folder.
    let folders: BTreeMap<_, _> = paths.iter().map(|path| (path.parent(), path)).collect();
    folders.values().for_each(|path| sync_parent(path));
    Ok(())
}

/// Writes `bytes` under a temporary name and gives them the place of `path`. The temporary name is this process's own: several may
/// share a directory.
fn replace(path: &Path, bytes: &[u8], sync: fn(&fs::File) -> std::io::Result<()>) -> Result<()> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| Error::output(parent, e))?;
    }
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}-{}{PARTIAL}", holder::token(), COUNT.fetch_add(1, Ordering::Relaxed)));
    let partial = PathBuf::from(partial);
    let written = fs::File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| sync(&file)))
        .and_then(|()| read_back(&partial, bytes))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|e| {
        let _ = fs::remove_file(&partial);
        Error::output(path, e)
    })
}

/// Holds a file that was written against its bytes, before it takes the place of another.
fn read_back(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    match fs::read(path)? == bytes {
        true => Ok(()),
        false => Err(std::io::Error::other("it does not hold what was written to it")),
    }
}

/// Syncs the directory of a file that was renamed; a file system that cannot is left alone.
fn sync_parent(path: &Path) {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = fs::File::open(parent).and_then(|dir| dir.sync_all());
}

/// Reads a CSV file; one that is not there yet is empty.
pub fn read_rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let mut reader = csv::Reader::from_path(path).map_err(|e| csv_error(path, e))?;
    // The rows' iterator drops an error of the header, and a file that cannot be read would be an empty one.
    reader.headers().map_err(|e| csv_error(path, e))?;
    reader.deserialize().collect::<std::result::Result<_, _>>().map_err(|e| csv_error(path, e))
}

/// A CSV file that holds something else, or that cannot be read: only the first is damage.
pub fn csv_error(path: &Path, error: csv::Error) -> Error {
    if error.is_io_error() { Error::input(path, error) } else { Error::damaged(path, error) }
}

/// Reads a JSON file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).map_err(|e| Error::input(path, e))?;
    serde_json::from_str(&text).map_err(|e| Error::damaged(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::rows::EpochRow;

    #[test]
    fn files_are_written_whole_and_synced_together() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a", "adapter/b", "adapter/c"].map(String::from);
        for name in &names {
            write_unsynced(&dir.path().join(name), b"old").unwrap();
            write_unsynced(&dir.path().join(name), name.as_bytes()).unwrap();
        }
        sync_files(dir.path(), &names).unwrap();
        for name in &names {
            assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), *name);
        }
        let left = fs::read_dir(dir.path()).unwrap().chain(fs::read_dir(dir.path().join("adapter")).unwrap());
        assert_eq!(left.count(), 4, "a temporary file is left");
        let missing = sync_files(dir.path(), &["a", "gone"]).unwrap_err().to_string();
        assert!(missing.contains("gone"), "{missing}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_called_damage() {
        let dir = tempfile::tempdir().unwrap();
        let advice = "Delete its run directory";
        // A directory can be opened, and not be read.
        let unreadable = read_rows::<EpochRow>(dir.path()).unwrap_err().to_string();
        assert!(!unreadable.contains(advice), "{unreadable}");
        let damaged = dir.path().join("epochs.csv");
        fs::write(&damaged, "epoch,steps\n1,x\n").unwrap();
        let damaged = read_rows::<EpochRow>(&damaged).unwrap_err().to_string();
        assert!(damaged.contains(advice), "{damaged}");
    }
}
