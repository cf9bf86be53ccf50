//! The report: every table and figure from stored runs, as files and as text for a terminal.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::analysis::frame::{self, Collected, Sources, collect};
use crate::error::{Error, Result};
use crate::report::figures::FIGURES;
use crate::report::formats::render::html;
use crate::report::plot::render;
use crate::report::tables::{Needs, Rendered, TABLES, Table};
use crate::store::files::write_atomically;
use crate::store::rows::{PeerRound, TimingRow};

/// What was written, and what a terminal shows of it.
#[derive(Debug, Clone)]
pub struct ReportPaths {
    /// Directory of the report.
    pub dir: PathBuf,
    /// The self-contained page.
    pub html: PathBuf,
    /// Every file, in the order written.
    pub files: Vec<PathBuf>,
    /// Finished tables: (table name, table), one an entry for each protocol.
    pub tables: Vec<(&'static str, Rendered)>,
}

impl ReportPaths {
    /// The tables named, as text at most `width` wide; every table when `names` is empty.
    pub fn text(&self, names: &[&str], width: usize) -> String {
        let chosen = self.tables.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
        chosen.map(|(_, table)| table.to_text(width)).collect::<Vec<_>>().join("\n")
    }
}

/// Writes the report of `sources` into `out`: `<table>.{md,csv,tex}`, `results.csv`, `figures/*.{svg,png}`, `report.html`.
///
/// # Errors
/// A file cannot be written.
pub fn write(sources: Sources, out: &Path) -> Result<ReportPaths> {
    let collected = collect(sources)?;
    let protocols =
        collected.protocols()?.iter().map(|p| Ok((p.slug(), collected.of(p)?))).collect::<Result<Vec<_>>>()?;
    let mut report = Writer { out, files: Vec::new() };
    report.file("results.csv", &frame::to_csv(&collected.results)?)?;
    let mut tables = Vec::new();
    for table in TABLES {
        let built = build(*table, &collected, &protocols)?;
        report.table(*table, &built)?;
        tables.extend(built.into_iter().map(|rendered| (table.name(), rendered)));
    }
    let drawn = report.figures(&protocols)?;
    let html = report.file("report.html", page(&tables, &drawn).as_bytes())?;
    Ok(ReportPaths { dir: out.to_path_buf(), html, files: report.files, tables })
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

fn build(table: &dyn Table, all: &Collected, protocols: &[(String, Collected)]) -> Result<Vec<Rendered>> {
    let built = match table.needs() {
        Needs::Timings => vec![table.build(all)?],
        Needs::Runs => protocols.iter().map(|(_, runs)| table.build(runs)).collect::<Result<_>>()?,
    };
    Ok(built.into_iter().flatten().collect())
}

/// A drawn figure: heading and SVG text.
type Drawn = (String, String);

struct Writer<'a> {
    out: &'a Path,
    files: Vec<PathBuf>,
}

impl Writer<'_> {
    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.out.join(name);
        write_atomically(&path, bytes)?;
        self.files.push(path.clone());
        Ok(path)
    }

    fn table(&mut self, table: &dyn Table, built: &[Rendered]) -> Result<()> {
        let Some(first) = built.first() else { return Ok(()) };
        let join = |form: fn(&Rendered) -> String| built.iter().map(form).collect::<Vec<_>>().join("\n");
        let mut data = first.data.clone();
        for other in &built[1..] {
            data.vstack_mut(&other.data).map_err(frame::internal)?;
        }
        self.file(&format!("{}.md", table.name()), join(Rendered::to_markdown).as_bytes())?;
        self.file(&format!("{}.tex", table.name()), join(Rendered::to_latex).as_bytes())?;
        self.file(&format!("{}.csv", table.name()), &frame::to_csv(&data)?)?;
        Ok(())
    }

    fn figures(&mut self, protocols: &[(String, Collected)]) -> Result<Vec<Drawn>> {
        let mut drawn = Vec::new();
        for (slug, runs) in protocols {
            for figure in FIGURES {
                let Some(scene) = figure.scene(runs)? else { continue };
                let stem =
                    if protocols.len() == 1 { figure.name().into() } else { format!("{}-{slug}", figure.name()) };
                let svg = render::svg(&scene)?;
                self.file(&format!("figures/{stem}.svg"), svg.as_bytes())?;
                let png = self.out.join(format!("figures/{stem}.png"));
                render::png(&scene, &png)?;
                self.files.push(png);
                drawn.push((figure.title().to_string(), svg));
            }
        }
        Ok(drawn)
    }
}

const STYLE: &str = "body{font:15px/1.45 sans-serif;margin:2rem auto;max-width:1240px;padding:0 1rem;color:#222}\
table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}\
th,td{padding:.3rem .6rem;text-align:right;white-space:nowrap}th:first-child,td:first-child{text-align:left}\
thead th{border-bottom:2px solid #444}tbody tr{border-top:1px solid #ddd}tr.sub{border-top:0;color:#666}\
.wide{overflow-x:auto}.notes{font-size:13px;color:#444}figure{margin:1.5rem 0}svg{max-width:100%;height:auto}\
h2{font-size:1.15rem;margin-top:2.2rem}";

fn page(tables: &[(&'static str, Rendered)], figures: &[Drawn]) -> String {
    let sections: String = tables.iter().map(|(_, table)| table.to_html()).collect();
    let drawings: String = figures
        .iter()
        .map(|(title, svg)| format!("<figure aria-label=\"{}\">\n{}\n</figure>\n", html(title), strip_prolog(svg)))
        .collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>rankbench report</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<h1>rankbench report</h1>\n{sections}{drawings}</body>\n</html>\n"
    )
}

/// The SVG element alone, as HTML wants it inline.
fn strip_prolog(svg: &str) -> &str {
    svg.find("<svg").map_or(svg, |start| &svg[start..])
}
