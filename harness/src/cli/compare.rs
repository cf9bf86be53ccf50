//! `rankbench compare`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;

use crate::analysis::results::{GroupResults, ResultsFrame};
use crate::analysis::store_comparison::StoreComparison;
use crate::cli::job::width;
use crate::cli::stored::results;
use crate::cli::task_files::TaskFiles;
use crate::env::output;
use crate::error::{Error, Result};
use crate::report::compare::documents;
use crate::report::formats::format::Format;
use crate::report::formats::text::Text;

/// `rankbench compare`.
#[derive(Debug, Args)]
pub struct Compare {
    /// The directory of a sweep, or a folder with the `results.csv` of a report.
    #[arg(value_name = "A")]
    before: PathBuf,
    /// Another one; runs are matched by data, backbone, split, row of the recipe, task and seed.
    #[arg(value_name = "B")]
    after: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    own: TaskFiles,
}

impl Compare {
    pub(super) fn run(&self) -> Result<()> {
        self.own.read()?;
        let [before, after] = [results(&self.before)?, results(&self.after)?];
        let compared = StoreComparison::of(&before, &after);
        let [a, b] = [&self.before, &self.after].map(|path| path.display().to_string());
        if compared.pairs == 0 {
            let rows = [&before, &after].map(rows);
            return Err(Error::Input(format!(
                "no run of {a} has a partner of the same data, backbone, split, row, task and seed that is finished in {b}. {a}: {}. {b}: {}",
                rows[0], rows[1]
            )));
        }
        if self.json {
            output::print(format_args!("{:#}", serde_json::json!({ "a": a, "b": b, "comparison": compared })));
            return Ok(());
        }
        output::print(Text { width: width() }.render(&documents(&compared, &a, &b)?)?.trim_end());
        Ok(())
    }
}

/// Groups and method rows of a side, in words.
fn rows(frame: &ResultsFrame) -> String {
    let of_group = |group: &GroupResults| {
        let rows: BTreeSet<&str> = group.methods.iter().map(|row| row.title.as_str()).collect();
        format!("{} ({})", group.group.title(), rows.into_iter().collect::<Vec<_>>().join(", "))
    };
    let groups: Vec<String> = frame.groups.iter().map(of_group).collect();
    if groups.is_empty() { "no run".into() } else { groups.join("; ") }
}
