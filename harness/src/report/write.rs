//! The report: every table and figure from stored runs, as files and as text for a terminal.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::analysis::results::ResultsFrame;
use crate::error::{Error, Result};
use crate::report::figures::FIGURES;
use crate::report::folder::StagedFolder;
use crate::report::formats::FORMATS;
use crate::report::formats::format::Format;
use crate::report::formats::text::Text;
use crate::report::html::figure::Drawn;
use crate::report::html::page::page;
use crate::report::joined::{curves_csv, ranks_csv};
use crate::report::plot::pdf::pdf;
use crate::report::plot::render;
use crate::report::table::TableDoc;
use crate::report::tables::TABLES;
use crate::store::files::write_atomically;
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
        json!({ "report": self.dir, "tables": docs.map(table).collect::<Vec<_>>() })
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
    write_figures(frame, out, false)
}

/// As [`write`]; with `bare`, the files of the figures have no heading and no notes, for a paper's own caption.
///
/// # Errors
/// As [`write`].
pub fn write_figures(frame: &ResultsFrame, out: &Path, bare: bool) -> Result<ReportPaths> {
    let staged = StagedFolder::new(out)?;
    let mut report = Writer { out: staged.dir(), files: Vec::new(), bare };
    report.file("results.csv", &frame.results_csv()?)?;
    report.file("curves.csv", &curves_csv(frame)?)?;
    report.file("ranks.csv", &ranks_csv(frame)?)?;
    let mut tables = Vec::new();
    for table in TABLES {
        let docs = table.build(frame)?;
        if !docs.is_empty() {
            report.table(table.name(), &docs)?;
            tables.push((table.name(), docs));
        }
    }
    let drawn = report.figures(frame)?;
    report.file("report.html", page(frame, &tables, &drawn, &claims(&tables))?.as_bytes())?;
    let files = report.files;
    let names: Vec<PathBuf> =
        files.iter().filter_map(|file| file.strip_prefix(staged.dir()).ok()).map(Path::to_path_buf).collect();
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

struct Writer<'a> {
    out: &'a Path,
    files: Vec<PathBuf>,
    bare: bool,
}

impl Writer<'_> {
    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.out.join(name);
        write_atomically(&path, bytes)?;
        self.files.push(path);
        Ok(())
    }

    fn table(&mut self, name: &str, docs: &[TableDoc]) -> Result<()> {
        for format in FORMATS {
            self.file(&format!("{name}.{}", format.extension()), format.render(docs)?.as_bytes())?;
        }
        Ok(())
    }

    fn figures(&mut self, frame: &ResultsFrame) -> Result<Vec<Drawn>> {
        let mut drawn = Vec::new();
        for group in &frame.groups {
            for figure in FIGURES {
                let Some(scene) = figure.draw(group) else { continue };
                let stem = match frame.groups.len() {
                    1 => figure.name().into(),
                    _ => format!("{}-{}", figure.name(), group.group.slug()),
                };
                let svg = render::svg(&scene)?;
                let shown = Drawn::new(figure.title(), &scene, svg.clone());
                let (scene, svg) = match self.bare {
                    true => {
                        let bare = scene.bare();
                        let svg = render::svg(&bare)?;
                        (bare, svg)
                    }
                    false => (scene, svg),
                };
                self.file(&format!("figures/{stem}.svg"), svg.as_bytes())?;
                self.file(&format!("figures/{stem}.pdf"), &pdf(&scene)?)?;
                let png = self.out.join(format!("figures/{stem}.png"));
                render::png(&scene, &png)?;
                self.files.push(png);
                drawn.push(shown);
            }
        }
        Ok(drawn)
    }
}
