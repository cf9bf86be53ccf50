//! `rankbench audit`: whether the digits of a published table can be what they are said to be.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use datasets::split::Policy;

use crate::analysis::audit;
use crate::analysis::audit::assumed::Given;
use crate::cli::job::width;
use crate::env::output;
use crate::error::{Error, Result};
use crate::report::audit::{documents, json};
use crate::report::formats::format::Format;
use crate::report::formats::text::Text;

/// `rankbench audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// The table as CSV, values in points of 100 with the decimals as printed; those in results/published have both forms.
    ///
    /// Columns: `label` or `method`, and either `task`, `value` and perhaps `metric`, a line for each number (of the task `average`: the
    /// printed average), or a column for each task, named or titled as `rankbench list tasks` has it, with cells such as 69.82 or
    /// 92.40/89.80 (accuracy/F1, MNLI m/mm), and perhaps `average`. There may be `runs`, `split`, `backbone` (the row's setting) and `table`.
    /// Not used: `params_millions`, `provenance`, `source`, `status`, `remark`. Any other column is refused.
    #[arg(value_name = "TABLE.csv")]
    table: PathBuf,
    /// Runs that each number is assumed to be the mean of, whatever the table says. Left out: its column `runs`, then what is known of a
    /// published row, then 5.
    #[arg(long, value_name = "K")]
    runs: Option<NonZeroUsize>,
    /// Split whose test examples are assumed: sora (half of a small development set) or official (all of it). Left out: the column
    /// `split`, then what is known of a published row or of its table, then official.
    #[arg(long)]
    split: Option<Policy>,
    /// As JSON, with every value.
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) fn run(&self) -> Result<()> {
        let text = std::fs::read_to_string(&self.table).map_err(|e| Error::input(&self.table, e))?;
        let name = self.table.display().to_string();
        let given = Given { runs: self.runs.map(NonZeroUsize::get), split: self.split };
        let audit = audit::Audit::of(&name, &text, given)?;
        let text = match self.json {
            true => json(&name, &audit)?,
            false => Text { width: width() }.render(&documents(&name, &audit)?)?,
        };
        output::print(text.trim_end());
        Ok(())
    }
}
