//! `rankbench show`.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::analysis::run_details::{FileRow, RunDetails};
use crate::cli::job::width;
use crate::cli::stored::run_dir;
use crate::cli::task_files::TaskFiles;
use crate::env::output;
use crate::error::Result;
use crate::launch::headline::headline;
use crate::report::formats::format::Format;
use crate::report::formats::text::Text;
use crate::report::show::{documents, fields};
use crate::store::read::load;
use crate::store::record::{RunRecord, Status};
use crate::store::sums::file_names;

/// `rankbench show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The run: its id, the beginning of one id alone, or its directory.
    run: String,
    /// The directory of a sweep that holds it.
    #[arg(long, default_value = "results", value_name = "STORE")]
    out: PathBuf,
    /// As JSON, with specification, manifest and outcome as stored.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    own: TaskFiles,
}

impl Show {
    pub(super) fn run(&self) -> Result<()> {
        self.own.read()?;
        let dir = run_dir(&self.run, &self.out)?;
        let run = load(&dir)?;
        let (details, files) = (RunDetails::of(&run), files(&dir));
        if self.json {
            output::print(format_args!("{:#}", json(&run, &details, &files)));
            return Ok(());
        }
        let result = match &run.status {
            Status::Done(outcome) => {
                run.spec.made().map(|spec| format!(": {}", headline(spec, outcome))).unwrap_or_default()
            }
            _ => String::new(),
        };
        let tables = Text { width: width() }.render(&documents(&details, &files)?)?;
        output::print(format!("{}{result}\n\n{}\n{tables}", run.id, fields(&details.fields)).trim_end());
        Ok(())
    }
}

/// Files of a run's directory with their sizes.
fn files(dir: &Path) -> Vec<FileRow> {
    let names = file_names(dir).into_iter().chain(dir.join("DONE").is_file().then(|| "DONE".to_string()));
    let bytes = |name: &String| std::fs::metadata(dir.join(name)).map_or(0, |found| found.len());
    names.map(|file| FileRow { bytes: bytes(&file), file }).collect()
}

fn json(run: &RunRecord, details: &RunDetails, files: &[FileRow]) -> Value {
    let (state, reasons, outcome) = match &run.status {
        Status::Done(outcome) => ("done", Vec::new(), Some(outcome)),
        Status::Failed(reason) => ("failed", vec![reason.clone()], None),
        Status::Damaged(findings) => ("damaged", findings.clone(), None),
        Status::Unfinished => ("unfinished", Vec::new(), None),
    };
    json!({
        "run": run.id,
        "state": state,
        "reasons": reasons,
        "spec": run.spec,
        "manifest": run.manifest,
        "addition": run.addition,
        "outcome": outcome,
        "scores": details.metrics,
        "ranks": details.ranks,
        "files": files,
    })
}
