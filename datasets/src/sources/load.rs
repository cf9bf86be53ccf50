//! Rows of a task from a data directory: each set is found, read and held against the lock. The synthetic rows are in
//! [`crate::micro`].

use std::path::Path;

use crate::dataset::{Dataset, Example, ParsedFile, checksum, own_checksum};
use crate::error::{Error, Result};
use crate::sources::{jsonl, lock, parquet, pieces, tsv};
use crate::task::{FileFormat, SetSpec, Source, Task};

/// Endings that a text file may have, in the order they are looked for.
const TEXT_ENDINGS: [&str; 3] = ["", ".zst", ".gz"];

/// Reads the training and development sets of `task` from `dir`.
///
/// Each set is looked for in the task's sources in their order, e.g. as an official TSV file (`CoLA/train.tsv`, also with
/// `.zst` or `.gz`), then as the Hub's parquet file (`cola/train-00000-of-00001.parquet`, or all pieces of a larger
/// number); the first that is there counts. Files are then held against the lock, unless `allow_unlocked`.
///
/// # Errors
/// [`Error::Missing`] with every name tried, [`Error::Lock`] where a file is not the one everyone has, and those of the
/// format's reader.
pub fn load(task: &'static Task, dir: &Path, allow_unlocked: bool) -> Result<Dataset> {
    let (mut sets, mut files, mut is_locked) = (Vec::new(), Vec::new(), true);
    for set in task.sets {
        let loaded = load_set(task, dir, set, allow_unlocked)?;
        sets.push((set.name, loaded.rows));
        files.push(loaded.file);
        is_locked &= loaded.is_locked;
    }
    let dev = sets.split_off(1);
    let train = sets.swap_remove(0).1;
    let mut sha256 = checksum(&train, &dev);
    let source = match task.file {
        Some(file) => {
            files.insert(0, (file.path.to_string(), file.sha256.to_string()));
            sha256 = own_checksum(&files, &sha256);
            "own"
        }
        None if is_locked => "glue",
        None => "glue-unlocked",
    };
    Ok(Dataset { task, train, dev, files, sha256, source })
}

/// One set, read.
#[derive(Debug, Clone)]
pub struct LoadedSet {
    /// Its rows.
    pub rows: Vec<Example>,
    /// Its entry of [`Dataset::files`].
    pub file: (String, String),
    /// Whether its rows are those of the lock.
    pub is_locked: bool,
}

/// Reads one set as [`load`] does.
///
/// # Errors
/// As [`load`].
pub fn load_set(task: &'static Task, dir: &Path, set: &SetSpec, allow_unlocked: bool) -> Result<LoadedSet> {
    let (source, name) = find(task, dir, set)?;
    let rows = match source.format {
        FileFormat::Parquet => pieces::read(task, source, dir, &name)?,
        _ => read(task, source, &dir.join(&name))?,
    };
    // A user's own task has no published rows to be held against.
    let checked = match task.file {
        Some(_) => Ok(()),
        None => lock::check(task, set, source.format, &dir.join(&name), &rows),
    };
    let is_locked = checked.is_ok();
    if !allow_unlocked {
        checked?;
    }
    Ok(LoadedSet { rows: rows.examples, file: (name, rows.sha256), is_locked })
}

/// Reads one file in a source's format.
///
/// # Errors
/// Those of the format's reader.
pub fn read(task: &Task, source: &Source, path: &Path) -> Result<ParsedFile> {
    match source.format {
        FileFormat::Tsv { .. } => tsv::read(&task.labels, source, path),
        FileFormat::Parquet => parquet::read(&task.labels, source, path),
        FileFormat::Jsonl => jsonl::read(&task.labels, source, path),
    }
}

/// Paths below the data directory that a set may have, in the order they are looked for.
fn paths(task: &'static Task, set: &SetSpec) -> Vec<(&'static Source, String)> {
    let at = task.sets.iter().position(|known| known == set).unwrap_or_default();
    let of_source = |source: &'static Source| {
        // A user's own task names the very file.
        let endings = if source.format == FileFormat::Parquet || task.file.is_some() { 1 } else { TEXT_ENDINGS.len() };
        let file = source.files.get(at).copied().unwrap_or_default();
        TEXT_ENDINGS.iter().take(endings).map(move |ending| (source, format!("{file}{ending}")))
    };
    task.sources.iter().flat_map(of_source).collect()
}

fn find(task: &'static Task, dir: &Path, set: &SetSpec) -> Result<(&'static Source, String)> {
    let mut paths = paths(task, set);
    let missing = |what: String, path, help| Err(Error::Missing { what, path, help });
    let found = paths.iter().position(|(_, path)| dir.join(path).is_file());
    if let Some(found) = found {
        return Ok(paths.swap_remove(found));
    }
    let first = |(source, path): &(&'static Source, String)| match source.format {
        FileFormat::Parquet => Some((*source, pieces::first(dir, path)?)),
        _ => None,
    };
    if let Some(found) = paths.iter().find_map(first) {
        return Ok(found);
    }
    let what = format!("{} set of {}", set.name, task.title);
    if let Some(file) = task.file {
        let path = paths.first().map_or(dir.to_path_buf(), |(_, path)| dir.join(path));
        return missing(what, path, format!("{} names it", file.path));
    }
    if !dir.is_dir() {
        let help = "Point to a directory that holds GLUE's folders".into();
        return missing("data directory".into(), dir.to_path_buf(), help);
    }
    let folder = |path: &str| dir.join(path.split('/').next().unwrap_or_default());
    if !paths.iter().any(|(_, path)| folder(path).is_dir()) {
        let [official, hub] = [paths.first(), paths.last()].map(|path| path.map_or(dir.into(), |(_, p)| folder(p)));
        let help = format!("Nor is there {} with the Hub's parquet files. Point to the directory above", hub.display());
        return missing(format!("folder of {}", task.title), official, help);
    }
    let tried: Vec<String> = paths.into_iter().map(|(_, path)| path).collect();
    missing(what, dir.to_path_buf(), format!("Tried {}", tried.join(", ")))
}
