//! `rankbench report` and `rankbench fsck`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use crate::cli::job::width;
use crate::cli::stored::{ReportFlags, sweep_dir};
use crate::error::{Error, Result};
use crate::report::table::TableDoc;
use crate::report::write::ReportPaths;
use crate::store::record::{self, Status};

/// `rankbench report`.
#[derive(Debug, Args)]
pub struct Report {
    /// The directory of a sweep: all of its `runs` (and `timings.csv`, where there is one) are read; results where it is left out.
    #[arg(value_name = "OUT")]
    dir: Option<PathBuf>,
    /// The same as a flag.
    #[arg(long, value_name = "OUT", conflicts_with = "dir")]
    out: Option<PathBuf>,
    /// Print the tables as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    report: ReportFlags,
}

impl Report {
    pub(super) fn run(&self) -> Result<()> {
        let out = sweep_dir(self.dir.as_ref().or(self.out.as_ref()).map_or(Path::new("results"), PathBuf::as_path))?;
        let frame = self.report.frame(&out, None)?;
        if frame.runs.is_empty() && frame.timings.is_empty() {
            return Err(Error::Input(format!("{} holds no run; `rankbench run` makes some", out.display())));
        }
        let paths = self.report.write(&frame, &out)?;
        if self.json {
            println!("{:#}", json(&paths));
            return Ok(());
        }
        println!("{}\nReport: {}", paths.text(&[], width())?, paths.html.display());
        Ok(())
    }
}

/// Every table by its texts.
fn json(paths: &ReportPaths) -> Value {
    let docs = paths.tables.iter().flat_map(|(name, docs)| docs.iter().map(move |doc| (name, doc)));
    let table = |(name, doc): (&&'static str, &TableDoc)| {
        let rows: Vec<&Vec<String>> = doc.rows.iter().map(|row| &row.cells).collect();
        serde_json::json!({ "name": name, "title": doc.title, "header": doc.header, "rows": rows, "notes": doc.notes })
    };
    serde_json::json!({ "report": paths.dir, "tables": docs.map(table).collect::<Vec<_>>() })
}

/// `rankbench fsck`.
#[derive(Debug, Args)]
pub struct Fsck {
    /// The directory of a sweep: its `runs` are checked.
    #[arg(long, default_value = "results", value_name = "OUT")]
    out: PathBuf,
}

impl Fsck {
    pub(super) fn run(&self) -> Result<()> {
        let runs = self.out.join("runs");
        let (records, others) = record::load_all(&runs, |run| (run.id, run.status))?;
        let mut findings = 0;
        for (path, reason) in &others {
            println!(
                "{}: no run that can be read: {reason}\n  move it away, or delete it to have the run made again",
                path.display()
            );
            findings += 1;
        }
        let mut counts = [0; 3];
        for (id, status) in &records {
            match status {
                Status::Done(_) => counts[0] += 1,
                Status::Failed(_) => counts[1] += 1,
                Status::Unfinished => counts[2] += 1,
                Status::Damaged(reasons) => {
                    println!("{}", runs.join(id).display());
                    reasons.iter().for_each(|reason| println!("  {reason}"));
                    println!("  take the files from a copy, or delete the directory to have the run made again");
                    findings += 1;
                }
            }
        }
        let [done, failed, unfinished] = counts;
        println!("{done} runs are whole, {failed} failed, {unfinished} are unfinished, {findings} do not agree");
        match findings {
            0 => Ok(()),
            findings => Err(Error::Input(format!(
                "{findings} of the directories in {} are not as they were written",
                runs.display()
            ))),
        }
    }
}
