//! `rankbench tokenize`.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use datasets::sources::load;
use datasets::tokenizer::{Behaviour, Tokenizer};
use datasets::{Example, Task};
use serde::Serialize;

use crate::cli::job::DataFlags;
use crate::cli::values::{self, Names};
use crate::env::output;
use crate::error::{Error, Result};
use crate::load::backbone::honoured;
use crate::load::download;
use crate::load::paths;
use crate::load::task_data::RowSource;
use crate::plan::recipe::Source;
use crate::store::files::write_atomically;

/// `rankbench tokenize`.
#[derive(Debug, Args)]
pub struct Tokenize {
    /// Backbone whose tokenizer is taken: a directory, the name of one below .cache/backbones, or a repository on the Hub.
    #[arg(long)]
    backbone: String,
    /// How a sentencepiece vocabulary is read; sentencepiece where it is left out.
    #[arg(long)]
    tokenizer: Option<Behaviour>,
    /// Tasks, separated by commas, or `all`.
    #[arg(long, value_parser = values::tasks)]
    tasks: Names,
    /// Longest row in tokens; uncut where it is left out.
    #[arg(long)]
    max_length: Option<usize>,
    /// Where the rows go, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    data: DataFlags,
}

#[derive(Serialize)]
struct Row<'a> {
    task: &'a str,
    set: &'a str,
    row: usize,
    first: &'a str,
    second: Option<&'a str>,
    ids: &'a [u32],
}

impl Tokenize {
    pub(super) fn run(&self) -> Result<()> {
        let hub = download::hub();
        self.data.own.read()?;
        let tasks = self.tasks.0.iter().map(|name| Ok(datasets::tasks::find(name)?)).collect::<Result<Vec<_>>>()?;
        let origin = self.data.origin(Source::Glue, &tasks, &hub)?;
        let dir = paths::backbone(&self.backbone, &hub)?.dir;
        let tokenizer = Tokenizer::from_dir(&dir, self.tokenizer.unwrap_or_default())?;
        honoured(&tokenizer, self.tokenizer)?;
        if tokenizer.is_second_best() {
            output::note(format_args!(
                "{} has no spm.model: its tokenizer.json is read as --tokenizer fast",
                dir.display()
            ));
        }
        let max_length = self.max_length.unwrap_or(usize::MAX);
        let mut lines = String::new();
        let (mut rows, mut tokens, mut spent) = (0, 0, Duration::ZERO);
        for task in tasks {
            for (set, examples) in sets(&origin, task)? {
                let started = Instant::now();
                let encoded = tokenizer.encode_all(&examples, max_length)?;
                spent += started.elapsed();
                rows += encoded.len();
                for (example, row) in examples.iter().zip(&encoded) {
                    let (first, second, ids) = (&example.first, example.second.as_deref(), &row.encoding.ids);
                    let line = Row { task: task.name, set, row: row.row, first, second, ids };
                    lines += &serde_json::to_string(&line).map_err(|e| Error::Internal(e.to_string()))?;
                    lines.push('\n');
                    tokens += ids.len();
                }
            }
        }
        write_atomically(&self.out, lines.as_bytes())?;
        let (path, seconds) = (self.out.display(), spent.as_secs_f64());
        output::print(format_args!(
            "{path}: {rows} rows, {tokens} tokens in {seconds:.3} s, {}",
            tokenizer.behaviour().name()
        ));
        Ok(())
    }
}

/// The labelled sets of a task; one that is not there is left out and said, but not all of them.
fn sets(origin: &RowSource, task: &'static Task) -> Result<Vec<(&'static str, Vec<Example>)>> {
    let Some(dir) = origin.dir(task)? else {
        let dataset = datasets::micro::dataset(task)?;
        return Ok([("train", dataset.train)].into_iter().chain(dataset.dev).collect());
    };
    let (mut found, mut lacking) = (Vec::new(), Vec::new());
    for set in task.sets {
        match load::load_set(task, dir, set, origin.allows_unlocked()) {
            Ok(loaded) => found.push((set.name, loaded.rows)),
            Err(missing @ datasets::Error::Missing { .. }) => lacking.push(missing),
            Err(other) => return Err(other.into()),
        }
    }
    if found.is_empty()
        && let Some(missing) = lacking.pop()
    {
        return Err(missing.into());
    }
    lacking.iter().for_each(|missing| output::note(format_args!("left out: {missing}")));
    Ok(found)
}
