//! The report: every table and figure from stored runs, as files and as text for a terminal.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::analysis::results::ResultsFrame;
use crate::error::{Error, Result};
use crate::report::drawings::{DrawnFigure, GoOn, drawings};
use crate::report::folder::StagedFolder;
use crate::report::formats::FORMATS;
use crate::report::formats::format::Format;
use crate::report::formats::text::Text;
use crate::report::html::figure::Drawn;
use crate::report::html::page::page;
use crate::report::joined::{curves_csv, ranks_csv};
use crate::report::table::{Table, TableDoc};
use crate::report::tables::TABLES;
use crate::store::files::{sync_files, write_unsynced};
use crate::store::rows::{PeerRound, TimingRow};

/// Files of a report, and its tables.
#[derive(Debug, Clone)]
pub struct ReportPaths {
    /// Directory of the report.
    pub dir: PathBuf,
    /// The self-contained page.
    pub html: PathBuf,
    /// Every file, in the order written.
    pub files: Vec<PathBuf>,
    /// Finished tables: name and documents.
    pub tables: Vec<(&'static str, Vec<TableDoc>)>,
}

impl ReportPaths {
    /// The tables named, as text at most `width` wide; every table when `names` is empty.
    ///
    /// # Errors
    /// A bug only.
    pub fn text(&self, names: &[&str], width: usize) -> Result<String> {
        let texts = self.chosen(names).map(|(_, docs)| Text { width }.render(docs)).collect::<Result<Vec<_>>>()?;
        Ok(texts.join("\n"))
    }

    /// The tables named, by their texts; every table when `names` is empty.
    pub fn json(&self, names: &[&str]) -> Value {
        let docs = self.chosen(names).flat_map(|(name, docs)| docs.iter().map(move |doc| (name, doc)));
        let table = |(name, doc): (&&'static str, &TableDoc)| json!({ "name": name, "title": doc.title, "header": doc.header, "rows": doc.rows, "notes": doc.notes });
        json!({ "report": self.dir.display().to_string(), "tables": docs.map(table).collect::<Vec<_>>() })
    }

    fn chosen(&self, names: &[&str]) -> impl Iterator<Item = &(&'static str, Vec<TableDoc>)> {
        self.tables.iter().filter(|(name, _)| names.is_empty() || names.contains(name))
    }
}

/// Writes the report of `frame` as the folder `out`: `<table>.{md,csv,tex}`, `results.csv`, `curves.csv`, `ranks.csv`, `figures/*.{svg,pdf,png}`, `report.html`.
/// An earlier report there is replaced as a whole.
///
/// # Errors
/// A file cannot be written; `out` is there and is no report.
pub fn write(frame: &ResultsFrame, out: &Path) -> Result<ReportPaths> {
    write_unless_stopped(frame, out, false, &AtomicBool::new(false))
}

/// As [`write`]; with `bare`, the files of the figures have no heading and no notes, for a paper's own caption. Once `stop` is set,
/// the report before stays.
///
/// # Errors
/// As [`write`]; it was stopped.
pub fn write_unless_stopped(frame: &ResultsFrame, out: &Path, bare: bool, stop: &AtomicBool) -> Result<ReportPaths> {
    let staged = StagedFolder::new(out)?;
    let go_on = || if stop.load(Ordering::Relaxed) { Err(Error::ReportInterrupted) } else { Ok(()) };
    let (numbers, figures) =
        rayon::join(|| rayon::join(|| texts(frame), || built(frame, &go_on)), || drawings(frame, bare, &go_on));
    let (texts, tables, figures) = (numbers.0?, numbers.1?, figures?);
    let mut report = Writer { out: staged.dir(), files: Vec::new(), go_on: &go_on };
    for (name, text) in ["results.csv", "curves.csv", "ranks.csv"].into_iter().zip(texts) {
        report.file(name, &text)?;
    }
    for (name, docs) in &tables {
        report.table(name, docs)?;
    }
    for figure in &figures {
        report.figure(figure)?;
    }
    let shown: Vec<Drawn> = figures.into_iter().map(|figure| figure.shown).collect();
    report.file("report.html", page(frame, &tables, &shown, &claims(&tables))?.as_bytes())?;
    go_on()?;
    let files = report.files;
    let names: Vec<PathBuf> =
        files.iter().filter_map(|file| file.strip_prefix(staged.dir()).ok()).map(Path::to_path_buf).collect();
    sync_files(staged.dir(), &names)?;
    staged.swap_in(&files)?;
    let files = names.iter().map(|name| out.join(name)).collect();
    Ok(ReportPaths { dir: out.to_path_buf(), html: out.join("report.html"), files, tables })
}

/// Reads `timings.csv`.
///
/// # Errors
/// The file is missing or damaged.
pub fn read_timings(path: &Path) -> Result<Vec<TimingRow>> {
    read_rows(path, "just efficiency")
}

/// Reads `peer_rounds.csv`, as `just compare-peers` writes it.
///
/// # Errors
/// The file is missing or damaged.
pub fn read_peers(path: &Path) -> Result<Vec<PeerRound>> {
    read_rows(path, "just compare-peers")
}

fn read_rows<T: DeserializeOwned>(path: &Path, command: &str) -> Result<Vec<T>> {
    let mut reader = csv::Reader::from_path(path).map_err(|e| Error::input(path, e))?;
    let rows = reader.deserialize().collect::<std::result::Result<_, _>>();
    rows.map_err(|e| Error::Input(format!("{} is damaged: {e}. Delete it and run `{command}` again", path.display())))
}

/// Sentences of the table of claims, where there is one: its first notes, one a row.
fn claims(tables: &[(&'static str, Vec<TableDoc>)]) -> Vec<String> {
    let docs = tables.iter().filter(|(name, _)| *name == "claims").flat_map(|(_, docs)| docs);
    docs.flat_map(|doc| doc.notes.iter().take(doc.rows.len()).cloned()).collect()
}

/// The files of all runs: scores, curves and ranks.
fn texts(frame: &ResultsFrame) -> Result<[Vec<u8>; 3]> {
    let (results, points) = rayon::join(|| frame.results_csv(), || (curves_csv(frame), ranks_csv(frame)));
    Ok([results?, points.0?, points.1?])
}

/// Every table that has something to say.
fn built(frame: &ResultsFrame, go_on: &GoOn) -> Result<Vec<(&'static str, Vec<TableDoc>)>> {
    let build = |table: &&'static dyn Table| {
        go_on()?;
        Ok((table.name(), table.build(frame)?))
    };
    let tables = TABLES.par_iter().map(build).collect::<Result<Vec<_>>>()?;
    Ok(tables.into_iter().filter(|(_, docs)| !docs.is_empty()).collect())
}

struct Writer<'a> {
    out: &'a Path,
    files: Vec<PathBuf>,
    go_on: &'a GoOn<'a>,
}

impl Writer<'_> {
    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        (self.go_on)()?;
        let path = self.out.join(name);
        write_unsynced(&path, bytes)?;
        self.files.push(path);
        Ok(())
    }

    fn table(&mut self, name: &str, docs: &[TableDoc]) -> Result<()> {
        for format in FORMATS {
            self.file(&format!("{name}.{}", format.extension()), format.render(docs)?.as_bytes())?;
        }
        Ok(())
    }

    fn figure(&mut self, figure: &DrawnFigure) -> Result<()> {
        let stem = &figure.stem;
        self.file(&format!("figures/{stem}.svg"), figure.svg.as_bytes())?;
        self.file(&format!("figures/{stem}.pdf"), &figure.pdf)?;
        self.file(&format!("figures/{stem}.png"), &figure.png)
    }
}
