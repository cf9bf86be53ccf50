//! Rows of tasks as ids: loaded, split and tokenised once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use datasets::dataset::Dataset;
use datasets::micro;
use datasets::sources::load;
use datasets::split::{self, Policy};
use datasets::tokenizer::{TokenizedExample, Tokenizer};
use datasets::{Example, SetSpec, Task};

use crate::error::{Error, Result};
use crate::plan::spec::RunSpec;

/// Rows of one task, split and tokenised.
pub struct TokenizedTask {
    /// The task.
    pub task: &'static Task,
    /// Training rows.
    pub train: Vec<TokenizedExample>,
    /// Its development sets.
    pub dev_sets: Vec<TokenizedDevSet>,
    /// Files the rows came from, with their sha256.
    pub files: Vec<(String, String)>,
    /// Seconds spent on reading and tokenising, not yet counted in a run.
    pub seconds: Cell<f64>,
}

/// One development set.
pub struct TokenizedDevSet {
    /// `dev`, `matched` or `mismatched`.
    pub name: &'static str,
    /// Rows that select the checkpoint.
    pub validation: Vec<TokenizedExample>,
    /// Rows that are reported; the same as `validation` under the official policy.
    pub test: Vec<TokenizedExample>,
    /// Whether the two are the same rows.
    pub is_one_set: bool,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowSource {
    /// The embedded synthetic suite.
    Micro,
    /// Files.
    Glue {
        /// Directory of each task's official files or the Hub's parquet files, by the task's name.
        dirs: BTreeMap<&'static str, PathBuf>,
        /// Whether files that differ from the lock are taken.
        allow_unlocked: bool,
    },
}

impl RowSource {
    /// The directory of a task's files, for a user's own task that of its TOML file; `None` where its rows are synthetic.
    ///
    /// # Errors
    /// A task that the command did not name.
    pub fn dir(&self, task: &Task) -> Result<Option<&Path>> {
        if let Some(file) = task.file {
            return Ok(Some(Path::new(file.folder)));
        }
        match self {
            RowSource::Micro => Ok(None),
            RowSource::Glue { dirs, .. } => match dirs.get(task.name) {
                Some(dir) => Ok(Some(dir)),
                None => Err(Error::Internal(format!("no directory was looked up for {}", task.name))),
            },
        }
    }

    /// Whether files that differ from the lock are taken.
    pub fn allows_unlocked(&self) -> bool {
        matches!(self, RowSource::Glue { allow_unlocked: true, .. })
    }
}

/// Loads and tokenises each task once.
pub struct TaskCache {
    origin: RowSource,
    loaded: RefCell<BTreeMap<&'static str, Rc<Dataset>>>,
    encoded: RefCell<Vec<(TokenizedKey, Rc<TokenizedTask>)>>,
}

/// Settings that the ids of a task depend on, besides the tokenizer.
#[derive(PartialEq)]
struct TokenizedKey {
    task: &'static str,
    split: Policy,
    max_length: usize,
    train_limit: Option<usize>,
}

impl TaskCache {
    /// Nothing loaded yet.
    pub fn new(origin: RowSource) -> Self {
        TaskCache { origin, loaded: RefCell::default(), encoded: RefCell::default() }
    }

    /// All rows of a task.
    ///
    /// # Errors
    /// Files that are missing, damaged or not those of the lock.
    pub fn dataset(&self, task: &'static Task) -> Result<Rc<Dataset>> {
        if let Some(known) = self.loaded.borrow().get(task.name) {
            return Ok(Rc::clone(known));
        }
        let dataset = Rc::new(match self.origin.dir(task)? {
            None => micro::dataset(task)?,
            Some(dir) => load::load(task, dir, self.origin.allows_unlocked())?,
        });
        self.loaded.borrow_mut().insert(task.name, Rc::clone(&dataset));
        Ok(dataset)
    }

    /// The development sets of a task; its training set is not asked for.
    ///
    /// # Errors
    /// As [`TaskCache::dataset`].
    pub fn dev(&self, task: &'static Task) -> Result<Vec<(&'static str, Vec<Example>)>> {
        let Some(dir) = self.origin.dir(task)? else { return Ok(micro::dataset(task)?.dev) };
        let set = |set: &'static SetSpec| {
            let rows = load::load_set(task, dir, set, self.origin.allows_unlocked())?.rows;
            match rows.is_empty() {
                true => {
                    Err(Error::Input(format!("the {} set of {} in {} is empty", set.name, task.title, dir.display())))
                }
                false => Ok((set.name, rows)),
            }
        };
        task.dev_sets().iter().map(set).collect()
    }

    /// Refuses a split that leaves a set of a run empty.
    ///
    /// # Errors
    /// As [`TaskCache::dataset`]; an empty set.
    pub fn check_split(&self, spec: &RunSpec) -> Result<()> {
        let task = datasets::tasks::find(&spec.task)?;
        let dataset = self.dataset(task)?;
        let is_small = dataset.train.len() < 10 || dataset.dev.iter().any(|(_, rows)| rows.len() < 2);
        if is_small {
            no_empty_set(&split::split(&dataset, spec.data.split), task)?;
        }
        Ok(())
    }

    /// The rows of a run, split, limited and tokenised.
    ///
    /// # Errors
    /// As [`TaskCache::dataset`]; a row that cannot be tokenised; no training row.
    pub fn of_run(&self, spec: &RunSpec, tokenizer: &Tokenizer) -> Result<Rc<TokenizedTask>> {
        let task = datasets::tasks::find(&spec.task)?;
        let (max_length, train_limit) = (spec.train.max_length, spec.data.train_limit);
        let key = TokenizedKey { task: task.name, split: spec.data.split, max_length, train_limit };
        if let Some((_, known)) = self.encoded.borrow().iter().find(|(of, _)| *of == key) {
            return Ok(Rc::clone(known));
        }
        let started = Instant::now();
        let data = Rc::new(encode(&*self.dataset(task)?, &key, tokenizer)?);
        data.seconds.set(started.elapsed().as_secs_f64());
        self.encoded.borrow_mut().push((key, Rc::clone(&data)));
        Ok(data)
    }
}

fn no_empty_set(split: &split::Split, task: &Task) -> Result<()> {
    let train = [("training", &split.train)];
    let dev = split.dev_sets.iter().flat_map(|set| [("validation", &set.validation), ("test", &set.test)]);
    match train.into_iter().chain(dev).find(|(_, rows)| rows.is_empty()) {
        None => Ok(()),
        Some((name, _)) => Err(Error::Input(format!(
            "task {}: the split leaves its {name} set empty. It needs more rows: with split = \"sora\" a small task halves \
             its development set, and a large one gives a fifth of its training set to validation",
            task.name
        ))),
    }
}

fn encode(dataset: &Dataset, key: &TokenizedKey, tokenizer: &Tokenizer) -> Result<TokenizedTask> {
    let split = split::split(dataset, key.split);
    let encode = |rows: &[Example]| Ok::<_, Error>(tokenizer.encode_all(rows, key.max_length)?);
    let limit = key.train_limit.unwrap_or(usize::MAX).min(split.train.len());
    if limit == 0 {
        return Err(Error::Usage(format!("task {} has no training row to learn from", key.task)));
    }
    let dev_set = |set: &split::DevSplit| {
        Ok(TokenizedDevSet {
            name: set.name,
            validation: encode(&set.validation)?,
            test: encode(&set.test)?,
            is_one_set: set.is_one_set(),
        })
    };
    Ok(TokenizedTask {
        task: dataset.task,
        train: encode(&split.train[..limit])?,
        dev_sets: split.dev_sets.iter().map(dev_set).collect::<Result<_>>()?,
        files: dataset.files.clone(),
        seconds: Cell::new(0.0),
    })
}
