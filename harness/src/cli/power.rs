//! `rankbench power`.

use std::path::PathBuf;

use clap::Args;

use crate::analysis::power::{PowerRow, power};
use crate::analysis::results::ResultsFrame;
use crate::analysis::verdict;
use crate::cli::job::width;
use crate::cli::stored::{margin, results};
use crate::cli::task_files::TaskFiles;
use crate::env::output;
use crate::error::{Error, Result};
use crate::report::formats::format::Format;
use crate::report::formats::text::Text;
use crate::report::power::documents;

/// `rankbench power`.
#[derive(Debug, Args)]
pub struct Power {
    /// The directory of a sweep, or a folder with the `results.csv` of a report.
    #[arg(value_name = "STORE", default_value = "results")]
    store: PathBuf,
    /// Difference that is asked for, in points; on a task never below two test examples.
    #[arg(long, value_name = "POINTS", default_value_t = verdict::MARGIN, value_parser = margin)]
    margin: f64,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    own: TaskFiles,
}

impl Power {
    pub(super) fn run(&self) -> Result<()> {
        self.own.read()?;
        let frame = ResultsFrame { margin: self.margin, ..results(&self.store)? };
        let nothing = || {
            let store = self.store.display();
            Error::Input(format!("{store} holds no task and seed that two methods finished: nothing can be compared"))
        };
        if self.json {
            let rows: Vec<PowerRow> = frame.groups.iter().flat_map(|group| power(group, self.margin)).collect();
            if rows.is_empty() {
                return Err(nothing());
            }
            output::print(format_args!("{:#}", serde_json::json!({ "margin": self.margin, "rows": rows })));
            return Ok(());
        }
        let docs = documents(&frame)?;
        if docs.is_empty() {
            return Err(nothing());
        }
        output::print(Text { width: width() }.render(&docs)?.trim_end());
        Ok(())
    }
}
