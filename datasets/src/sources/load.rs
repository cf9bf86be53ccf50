//! Where rows come from: a directory of real GLUE, in one of two layouts. The synthetic rows are in [`crate::micro`].

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::dataset::{Dataset, Example, ParsedFile, Set, checksum};
use crate::error::{Error, Result};
use crate::sources::lock::{self, FileFormat};
use crate::sources::read;
use crate::task::Task;

/// Endings of an official TSV file, in the order they are looked for.
const TSV_ENDINGS: [&str; 3] = ["tsv", "tsv.zst", "tsv.gz"];
/// The Hub's parquet files are in one piece for every task; others' may be in several.
const PARQUET_ENDING: &str = "00000-of-00001.parquet";

/// Paths within the data directory it may have, in the order they are looked for.
fn paths(set: Set, task: &Task) -> Vec<(FileFormat, String)> {
    let tsv = match set {
        Set::Train => "train",
        Set::Dev(set) => set.tsv_stem,
    };
    let mut paths: Vec<(FileFormat, String)> =
        TSV_ENDINGS.iter().map(|ending| (FileFormat::Tsv, format!("{}/{tsv}.{ending}", task.folder))).collect();
    paths.push((FileFormat::Parquet, parquet_path(set, task)));
    paths
}

/// Path of the Hub's file within its repository.
pub fn parquet_path(set: Set, task: &Task) -> String {
    let stem = match set {
        Set::Train => "train",
        Set::Dev(set) => set.parquet_stem,
    };
    format!("{}/{stem}-{PARQUET_ENDING}", task.hub)
}

/// Reads the training and development sets of `task` from `dir`.
///
/// Each set is looked for as an official TSV file (`CoLA/train.tsv`, also with `.zst` or `.gz`), then as the Hub's
/// parquet file (`cola/train-00000-of-00001.parquet`, or all pieces of a larger number); the first that is there counts. ParsedFile are then held against the
/// lock, unless `allow_unlocked`.
///
/// # Errors
/// [`Error::Missing`] with every name tried, [`Error::Lock`] where a file is not the one everyone has, and those of
/// [`read::tsv`] and [`read::parquet`].
pub fn load(task: &'static Task, dir: &Path, allow_unlocked: bool) -> Result<Dataset> {
    let train = load_set(task, dir, Set::Train, allow_unlocked)?;
    let (mut dev, mut files, mut is_locked) = (Vec::new(), vec![train.file], train.is_locked);
    for set in task.dev_sets {
        let loaded = load_set(task, dir, Set::Dev(set), allow_unlocked)?;
        dev.push((set.name, loaded.rows));
        files.push(loaded.file);
        is_locked &= loaded.is_locked;
    }
    let sha256 = checksum(&train.rows, &dev);
    let source = if is_locked { "glue" } else { "glue-unlocked" };
    Ok(Dataset { task, train: train.rows, dev, files, sha256, source })
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
pub fn load_set(task: &'static Task, dir: &Path, set: Set, allow_unlocked: bool) -> Result<LoadedSet> {
    let (layout, name) = find(task, dir, set)?;
    let path = dir.join(&name);
    let rows = match layout {
        FileFormat::Tsv => read::tsv(task, &path)?,
        FileFormat::Parquet => parquet(task, dir, &name)?,
    };
    let checked = lock::check(task, set, layout, &path, &rows);
    let is_locked = checked.is_ok();
    if !allow_unlocked {
        checked?;
    }
    let ParsedFile { examples, sha256 } = rows;
    Ok(LoadedSet { rows: examples, file: (name, sha256), is_locked })
}

/// Reads a set that may lie in several pieces, of which `first` is the first.
fn parquet(task: &Task, dir: &Path, first: &str) -> Result<ParsedFile> {
    let pieces = pieces(first);
    if pieces.len() == 1 {
        return read::parquet(task, &dir.join(first));
    }
    let (mut examples, mut hash) = (Vec::new(), Sha256::new());
    for piece in pieces {
        let path = dir.join(&piece);
        if !path.is_file() {
            let help = "Every piece of the set must be there".into();
            return Err(Error::Missing { what: format!("a piece of a set of {}", task.title), path, help });
        }
        let rows = read::parquet(task, &path)?;
        hash.update(format!("{}\n", rows.sha256));
        let start = examples.len();
        examples.extend(rows.examples.into_iter().map(|row| Example { row: start + row.row, ..row }));
    }
    Ok(ParsedFile { examples, sha256: hex::encode(hash.finalize()) })
}

/// The names of all pieces of a set, by that of the first.
fn pieces(first: &str) -> Vec<String> {
    let stem = first.strip_suffix(".parquet").and_then(|stem| stem.rsplit_once("-00000-of-"));
    match stem.and_then(|(stem, count)| Some((stem, count, count.parse::<usize>().ok()?))) {
        Some((stem, digits, count)) => (0..count).map(|at| format!("{stem}-{at:05}-of-{digits}.parquet")).collect(),
        None => vec![first.to_string()],
    }
}

/// The first piece of a set that lies in several below `dir`.
fn first_piece(task: &Task, dir: &Path, set: Set) -> Option<String> {
    let whole = parquet_path(set, task);
    let start = whole.strip_suffix("00001.parquet")?.strip_prefix(task.hub)?.strip_prefix('/')?.to_string();
    let entries = std::fs::read_dir(dir.join(task.hub)).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_first = |name: &String| {
        let digits = name.strip_prefix(&start).and_then(|rest| rest.strip_suffix(".parquet"));
        digits.is_some_and(|digits| digits.len() == 5 && digits.parse::<usize>().is_ok_and(|count| count > 1))
    };
    names.filter(is_first).min().map(|name| format!("{}/{name}", task.hub))
}

fn find(task: &Task, dir: &Path, set: Set) -> Result<(FileFormat, String)> {
    let missing = |what: String, path, help| Err(Error::Missing { what, path, help });
    if !dir.is_dir() {
        let help = "Point to a directory that holds GLUE's folders".into();
        return missing("data directory".into(), dir.to_path_buf(), help);
    }
    if !dir.join(task.folder).is_dir() && !dir.join(task.hub).is_dir() {
        let help = format!("Nor is there {} with the Hub's parquet files", dir.join(task.hub).display());
        return missing(format!("folder of {}", task.title), dir.join(task.folder), help);
    }
    let mut paths = paths(set, task);
    match paths.iter().position(|(_, path)| dir.join(path).is_file()) {
        Some(found) => Ok(paths.swap_remove(found)),
        None if let Some(first) = first_piece(task, dir, set) => Ok((FileFormat::Parquet, first)),
        None => {
            let tried: Vec<String> = paths.into_iter().map(|(_, path)| path).collect();
            let help = format!("Tried {}", tried.join(", "));
            missing(format!("{} set of {}", set.name(), task.title), dir.to_path_buf(), help)
        }
    }
}
