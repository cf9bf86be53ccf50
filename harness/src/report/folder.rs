//! The folder of a report: written beside its place, then swapped in whole, so that nothing of an earlier report stays and a reader
//! never sees half of one.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::report::figures::FIGURES;
use crate::report::tables::TABLES;

/// List of a report's files, one a line: what is not in it was put there by somebody else.
const LIST: &str = ".report";
/// First bytes of a report's own files in a folder of an older program, which wrote no list.
const SIGNS: [(&str, &str); 2] = [("report.html", "<title>rankbench report"), ("results.csv", "run,task,")];

/// Begin and end of the name of a report that is being written.
const STAGING: [&str; 2] = [".report-", ".partial"];
/// Age from which such a folder without a lock is a leftover: its maker locks it right after it has made it.
const SETTLED: Duration = Duration::from_secs(60);

/// A report that is being written.
pub struct StagedFolder {
    place: PathBuf,
    staging: TempDir,
    /// The folder, locked as long as this process lives; none where the file system has no locks.
    _lock: Option<File>,
}

impl StagedFolder {
    /// An empty folder beside `place`, which must be free, empty, or an earlier report.
    ///
    /// # Errors
    /// `place` holds something else, which is left alone; the folder cannot be made.
    pub fn new(place: &Path) -> Result<Self> {
        // A link stays a link to the folder it points to.
        let place = place.canonicalize().unwrap_or_else(|_| place.to_path_buf());
        refuse_strangers(&place)?;
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|e| Error::output(parent, e))?;
        remove_leftovers(parent);
        // The umask takes its share, as of any folder.
        let mut builder = tempfile::Builder::new();
        let builder = builder.prefix(STAGING[0]).suffix(STAGING[1]).permissions(Permissions::from_mode(0o777));
        let staging = builder.tempdir_in(parent).map_err(|e| Error::output(parent, e))?;
        let lock = File::open(staging.path()).ok().filter(|folder| folder.try_lock().is_ok());
        Ok(StagedFolder { place, staging, _lock: lock })
    }

    /// Where its files are written.
    pub fn dir(&self) -> &Path {
        self.staging.path()
    }

    /// Puts it at its place; `files` are its files, below [`StagedFolder::dir`]. What others put into an earlier report is taken over.
    ///
    /// # Errors
    /// The file system refuses; what was at the place is there still.
    pub fn swap_in(self, files: &[PathBuf]) -> Result<PathBuf> {
        let failed = |e: io::Error| Error::output(&self.place, e);
        let names: Vec<String> =
            files.iter().filter_map(|file| Some(file.strip_prefix(self.dir()).ok()?.display().to_string())).collect();
        fs::write(self.dir().join(LIST), names.join("\n") + "\n").map_err(failed)?;
        if self.place.is_dir() {
            take_over(&self.place, self.dir()).map_err(failed)?;
            exchange(self.dir(), &self.place).map_err(failed)?;
        } else {
            fs::rename(self.dir(), &self.place).map_err(failed)?;
        }
        Ok(self.place)
    }
}

/// Removes reports that a killed process left half written.
fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !(name.starts_with(STAGING[0]) && name.ends_with(STAGING[1])) {
            continue;
        }
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|made| made.elapsed().ok());
        let is_settled = age.is_some_and(|age| age >= SETTLED);
        if is_settled && File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Refuses a place that is neither free nor an earlier report.
fn refuse_strangers(place: &Path) -> Result<()> {
    let is_empty = || fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none());
    if !place.exists() || (place.is_dir() && (is_empty() || is_report(place))) {
        return Ok(());
    }
    let reason = "it is there already and is no report of this program, so nothing in it was touched; move it away, or choose \
                  another folder";
    Err(Error::Output { path: place.to_path_buf(), reason: reason.into() })
}

fn is_report(dir: &Path) -> bool {
    let begins = |name: &str, sign: &str| fs::read(dir.join(name)).is_ok_and(|bytes| contains_early(&bytes, sign));
    dir.join(LIST).is_file() || SIGNS.iter().any(|(name, sign)| begins(name, sign))
}

fn contains_early(bytes: &[u8], sign: &str) -> bool {
    bytes[..bytes.len().min(1024)].windows(sign.len()).any(|window| window == sign.as_bytes())
}

/// Whether a program that wrote no list gave a file this name.
fn is_of_older_program(name: &Path) -> bool {
    let stem = name.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    match name.parent().is_some_and(|parent| parent == Path::new("figures")) {
        true => FIGURES.iter().any(|figure| stem.starts_with(figure.name())),
        false => TABLES.iter().map(|table| table.name()).chain(["results", "report"]).any(|known| stem == known),
    }
}

/// Copies every file of an earlier report that no report wrote.
fn take_over(from: &Path, to: &Path) -> io::Result<()> {
    let list = fs::read_to_string(from.join(LIST)).ok();
    let own: Option<BTreeSet<PathBuf>> = list.map(|text| text.lines().map(PathBuf::from).collect());
    let is_own = |name: &Path| match &own {
        Some(names) => names.contains(name) || name == Path::new(LIST),
        None => is_of_older_program(name),
    };
    let mut open = vec![PathBuf::new()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(from.join(&folder))?.flatten() {
            let name = folder.join(entry.file_name());
            if entry.path().is_dir() {
                open.push(name);
            } else if !is_own(&name) {
                let mut target = to.join(&name);
                if target.exists() {
                    target.as_mut_os_string().push(".earlier");
                }
                target.parent().map_or(Ok(()), fs::create_dir_all)?;
                fs::copy(entry.path(), target)?;
            }
        }
    }
    Ok(())
}

/// Lets two folders change places at once; in two steps where the file system cannot.
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    let [a, b] = [new, old].map(|path| CString::new(path.as_os_str().as_bytes()));
    let (a, b) = (a?, b?);
    // SAFETY: both are strings that end in a zero and live through the call.
    let code =
        unsafe { libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE) };
    if code == 0 {
        return Ok(());
    }
    let mut aside = new.as_os_str().to_owned();
    aside.push(".old");
    fs::rename(old, &aside)?;
    if let Err(error) = fs::rename(new, old) {
        fs::rename(&aside, old)?;
        return Err(error);
    }
    fs::remove_dir_all(&aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swap(place: &Path, names: &[&str]) -> Result<PathBuf> {
        let staged = StagedFolder::new(place)?;
        let files: Vec<PathBuf> = names.iter().map(|name| staged.dir().join(name)).collect();
        for file in &files {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "new").unwrap();
        }
        staged.swap_in(&files)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn nothing_of_an_earlier_report_stays_but_what_others_put_there_does() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("report");
        swap(&place, &["results.csv", "old.md", "figures/old.svg"]).unwrap();
        fs::write(place.join("notes.md"), "mine").unwrap();
        fs::write(place.join("table1.md"), "mine").unwrap();
        swap(&place, &["results.csv", "table1.md"]).unwrap();
        assert_eq!(names(&place), [".report", "notes.md", "results.csv", "table1.md", "table1.md.earlier"]);
        assert_eq!(fs::read_to_string(place.join("table1.md")).unwrap(), "new");
        assert_eq!(names(dir.path()), ["report"], "no temporary folder is left");
    }

    #[test]
    fn a_report_of_an_older_program_is_replaced_and_foreign_files_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("results.csv", "run,task,\n"), ("paired.md", "old"), ("notes.md", "mine")] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let place = swap(dir.path(), &["results.csv"]).unwrap();
        assert_eq!(names(&place), [".report", "notes.md", "results.csv"]);
    }

    #[test]
    fn a_folder_that_is_no_report_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.csv"), "mine").unwrap();
        let error = swap(dir.path(), &["results.csv"]).unwrap_err().to_string();
        assert!(error.contains("is no report of this program"), "{error}");
        assert_eq!(names(dir.path()), ["thesis.csv"]);
    }

    #[test]
    fn a_report_that_fails_leaves_the_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("report");
        swap(&place, &["results.csv"]).unwrap();
        let staged = StagedFolder::new(&place).unwrap();
        fs::write(staged.dir().join("results.csv"), "half").unwrap();
        drop(staged);
        assert_eq!((names(&place).len(), names(dir.path()).len()), (2, 1));
    }

    #[test]
    fn what_a_killed_process_left_goes_and_what_is_being_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let age = |path: &Path| {
            let then = std::time::SystemTime::now() - 2 * SETTLED;
            File::open(path).unwrap().set_times(std::fs::FileTimes::new().set_modified(then)).unwrap();
        };
        let [left, young] = [".report-a.partial", ".report-b.partial"].map(|name| dir.path().join(name));
        for path in [&left, &young] {
            fs::create_dir(path).unwrap();
        }
        let written = StagedFolder::new(&dir.path().join("one")).unwrap();
        [&left, written.dir()].into_iter().for_each(age);
        let other = StagedFolder::new(&dir.path().join("two")).unwrap();
        assert!(!left.exists());
        assert!([&young, written.dir(), other.dir()].iter().all(|path| path.exists()));
    }

    #[test]
    fn a_folder_has_the_usual_permissions() {
        let dir = tempfile::tempdir().unwrap();
        let place = swap(&dir.path().join("report"), &["results.csv"]).unwrap();
        let usual = dir.path().join("usual");
        fs::create_dir(&usual).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&place), mode(&usual));
    }
}
