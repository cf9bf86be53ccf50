//! `rankbench tokenize`.

use std::path::PathBuf;

use clap::Args;
use datasets::tokenizer::{Behaviour, Tokenizer};
use serde::Serialize;

use super::shared::DataFlags;
use crate::error::{Error, Result};
use crate::inputs::Data;
use crate::recipe::Source;
use crate::store::write_atomically;
use crate::{download, home};

/// `rankbench tokenize`.
#[derive(Debug, Args)]
pub struct Tokenize {
    /// Backbone whose tokenizer is taken: a directory, the name of one below .cache/backbones, or a repository on the Hub.
    #[arg(long)]
    backbone: String,
    /// How a sentencepiece vocabulary is read.
    #[arg(long, default_value = "sentencepiece")]
    tokenizer: Behaviour,
    /// Tasks, separated by commas.
    #[arg(long, value_delimiter = ',', required = true)]
    tasks: Vec<String>,
    #[command(flatten)]
    data: DataFlags,
    /// Longest row in tokens; uncut where it is left out.
    #[arg(long)]
    max_length: Option<usize>,
    /// Where the rows go, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Row<'a> {
    task: &'a str,
    set: &'a str,
    row: usize,
    ids: &'a [u32],
}

impl Tokenize {
    pub(super) fn run(&self) -> Result<()> {
        let hub = download::hub();
        let tasks = self.tasks.iter().map(|name| Ok(datasets::glue::find(name)?)).collect::<Result<Vec<_>>>()?;
        let data = Data::new(self.data.origin(Source::Glue, &tasks, &hub)?);
        let tokenizer = Tokenizer::from_dir(&home::backbone(&self.backbone, &hub)?.dir, self.tokenizer)?;
        let max_length = self.max_length.unwrap_or(usize::MAX);
        let mut lines = String::new();
        let mut count = 0;
        for task in tasks {
            let dataset = data.dataset(task)?;
            let dev = dataset.dev.iter().map(|(name, rows)| (*name, rows));
            for (set, rows) in [("train", &dataset.train)].into_iter().chain(dev) {
                for row in tokenizer.encode_all(rows, max_length)? {
                    let line = Row { task: task.name, set, row: row.row, ids: &row.encoding.ids };
                    lines += &serde_json::to_string(&line).map_err(|e| Error::Internal(e.to_string()))?;
                    lines.push('\n');
                    count += 1;
                }
            }
        }
        write_atomically(&self.out, lines.as_bytes())?;
        println!("{}: {count} rows, {}", self.out.display(), tokenizer.behaviour().name());
        Ok(())
    }
}
