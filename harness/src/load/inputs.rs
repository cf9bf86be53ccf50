//! What a run reads: the frozen backbone with its tokenizer, and the rows of a task as ids.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use datasets::dataset::Dataset;
use datasets::micro;
use datasets::sources::load;
use datasets::split::{self, Policy};
use datasets::tokenizer::{Behaviour, Embeddings, TokenizedExample, Tokenizer};
use datasets::{Example, SetSpec, Task};
use encoders::Encoder;
use sha2::{Digest, Sha256};
use tch::{Device, Kind};

use crate::env::output;
use crate::error::{Error, Result};
use crate::load::paths::Place;
use crate::plan::spec::{BackboneSpec, RunSpec};

/// The backbone on its device.
pub struct Inputs {
    /// The encoder in the host's memory, float32: target modules, head and start values of what trains the backbone itself.
    pub encoder: Rc<dyn Encoder>,
    /// On the device, once a run asks for it: the kind asked for last. Another kind's would be part of a run's peak memory.
    on_device: RefCell<Option<(Kind, Rc<dyn Encoder>)>>,
    /// Seconds spent on reading, not yet counted in a run.
    seconds: Cell<f64>,
    dir: PathBuf,
    /// Whether training steps on a GPU are recorded as CUDA graphs.
    pub graphs: bool,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Where it lies.
    pub device: Device,
    /// By name and content.
    pub backbone: BackboneSpec,
    /// Files read, with their sha256.
    pub files: Vec<(String, String)>,
}

impl Inputs {
    /// Reads a backbone.
    ///
    /// # Errors
    /// A missing or damaged file, an architecture or option that is not supported, a tokenizer of another model.
    pub fn load(place: &Place, behaviour: Behaviour, device: Device, graphs: bool) -> Result<Self> {
        let started = Instant::now();
        let dir = &place.dir;
        let graphs = match device {
            Device::Cuda(index) if graphs => match torch_ext::graph::enter(index) {
                Ok(()) => true,
                Err(e) => {
                    // Slower without them, and not wrong.
                    output::note(format_args!("{e}; going on with --graphs off"));
                    false
                }
            },
            _ => false,
        };
        let encoder: Rc<dyn Encoder> = encoders::load(dir, Device::Cpu, Kind::Float)?.into();
        let tokenizer = Tokenizer::from_dir(dir, behaviour)?;
        let vocab_size = encoder.info().vocab_size as usize;
        if tokenizer.vocab_size() > vocab_size {
            return Err(Error::Input(format!(
                "the tokenizer {} has the id {}, but the encoder only {} embeddings: they are not of one model",
                tokenizer.path().display(),
                tokenizer.vocab_size() - 1,
                vocab_size
            )));
        }
        if tokenizer.is_second_best() {
            output::note(format_args!(
                "{} has no spm.model: its tokenizer.json is read as --tokenizer fast",
                dir.display()
            ));
        }
        let segments = encoder.info().weights.iter().find(|(name, _)| name.ends_with("token_type_embeddings.weight"));
        let segments = segments.and_then(|(_, table)| usize::try_from(*table.size().first()?).ok());
        let tokenizer =
            tokenizer.with_embeddings(Embeddings { tokens: vocab_size, segments: segments.unwrap_or(usize::MAX) });
        let mut sums = encoders::checkpoint::checksums::checksums(dir)?;
        sums.push(("tokenizer".into(), tokenizer.sha256().to_string()));
        let digest = Sha256::digest(sums.iter().map(|(name, sum)| format!("{name} {sum}\n")).collect::<String>());
        let weights_sha256 = weights_sum(&sums);
        let known = datasets::backbones::find(&weights_sha256);
        let name = known.map_or_else(|| place.name.clone(), |known| known.name.clone());
        let files = sums.into_iter().map(|(file, sum)| (format!("{name}/{file}"), sum)).collect();
        let (sha256, tokenizer_behaviour) = (hex::encode(digest), tokenizer.behaviour());
        let backbone = BackboneSpec { name, weights_sha256, sha256, tokenizer: tokenizer_behaviour };
        let (on_device, dir, seconds) = (RefCell::default(), dir.clone(), started.elapsed().as_secs_f64().into());
        Ok(Inputs { encoder, on_device, seconds, dir, graphs, tokenizer, device, backbone, files })
    }

    /// Holds a task and the reading that was asked for by name against the tokenizer.
    ///
    /// # Errors
    /// Pairs for a backbone with one segment; sentencepiece's own reading of a tokenizer that has another.
    pub fn check(&self, tasks: &[&'static Task], asked: Option<Behaviour>) -> Result<()> {
        honoured(&self.tokenizer, asked)?;
        match tasks.iter().any(|task| task.is_pair()) {
            true => Ok(self.tokenizer.check_pairs()?),
            false => Ok(()),
        }
    }

    /// The encoder on the device with its weights in a kind.
    ///
    /// # Errors
    /// As [`Inputs::load`].
    pub fn encoder_in(&self, kind: Kind) -> Result<Rc<dyn Encoder>> {
        if (self.device, kind) == (Device::Cpu, Kind::Float) {
            return Ok(Rc::clone(&self.encoder));
        }
        if let Some((known, encoder)) = &*self.on_device.borrow()
            && *known == kind
        {
            return Ok(Rc::clone(encoder));
        }
        let started = Instant::now();
        self.on_device.replace(None);
        let encoder: Rc<dyn Encoder> = encoders::load(&self.dir, self.device, kind)?.into();
        self.on_device.replace(Some((kind, Rc::clone(&encoder))));
        self.seconds.set(self.seconds.get() + started.elapsed().as_secs_f64());
        Ok(encoder)
    }

    /// Seconds of reading since the last call: the run that asks first counts them.
    pub fn take_seconds(&self) -> f64 {
        self.seconds.take()
    }
}

/// sha256 of the weight file, the only one besides the configuration and the tokenizer; of the list of sums where the weights are in
/// several.
fn weights_sum(sums: &[(String, String)]) -> String {
    let weights: Vec<&(String, String)> =
        sums.iter().filter(|(name, _)| name != "config.json" && name != "tokenizer").collect();
    match weights.as_slice() {
        [(_, sum)] => sum.clone(),
        several => {
            hex::encode(Sha256::digest(several.iter().map(|(name, sum)| format!("{name} {sum}\n")).collect::<String>()))
        }
    }
}

/// Whether a tokenizer reads as `--tokenizer` asks.
///
/// # Errors
/// It does not.
pub fn honoured(tokenizer: &Tokenizer, asked: Option<Behaviour>) -> Result<()> {
    match asked {
        Some(asked) if asked == Behaviour::Sentencepiece && tokenizer.behaviour() != asked => {
            Err(Error::Usage(format!(
                "--tokenizer sentencepiece asks for DeBERTa's spm.model, but {} is read, in its one way. Add spm.model, or \
                 leave the flag out",
                tokenizer.path().display()
            )))
        }
        _ => Ok(()),
    }
}

/// Rows of one task, split and tokenised.
pub struct TaskData {
    /// The task.
    pub task: &'static Task,
    /// Training rows.
    pub train: Vec<TokenizedExample>,
    /// Its development sets.
    pub dev_sets: Vec<DevData>,
    /// Files the rows came from, with their sha256.
    pub files: Vec<(String, String)>,
    /// Seconds spent on reading and tokenising, not yet counted in a run.
    pub seconds: Cell<f64>,
}

/// One development set.
pub struct DevData {
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
pub enum Origin {
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

impl Origin {
    /// The directory of a task's files, for a user's own task that of its TOML file; `None` where its rows are synthetic.
    ///
    /// # Errors
    /// A task that the command did not name.
    pub fn dir(&self, task: &Task) -> Result<Option<&Path>> {
        if let Some(file) = task.file {
            return Ok(Some(Path::new(file.folder)));
        }
        match self {
            Origin::Micro => Ok(None),
            Origin::Glue { dirs, .. } => match dirs.get(task.name) {
                Some(dir) => Ok(Some(dir)),
                None => Err(Error::Internal(format!("no directory was looked up for {}", task.name))),
            },
        }
    }

    /// Whether files that differ from the lock are taken.
    pub fn allows_unlocked(&self) -> bool {
        matches!(self, Origin::Glue { allow_unlocked: true, .. })
    }
}

/// Loads and tokenises each task once.
pub struct Data {
    origin: Origin,
    loaded: RefCell<BTreeMap<&'static str, Rc<Dataset>>>,
    encoded: RefCell<Vec<(EncodedKey, Rc<TaskData>)>>,
}

/// What the ids of a task depend on besides the tokenizer.
#[derive(PartialEq)]
struct EncodedKey {
    task: &'static str,
    split: Policy,
    max_length: usize,
    train_limit: Option<usize>,
}

impl Data {
    /// Nothing loaded yet.
    pub fn new(origin: Origin) -> Self {
        Data { origin, loaded: RefCell::default(), encoded: RefCell::default() }
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
    /// As [`Data::dataset`].
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
    /// As [`Data::dataset`]; an empty set.
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
    /// As [`Data::dataset`]; a row that cannot be tokenised; no training row.
    pub fn of_run(&self, spec: &RunSpec, tokenizer: &Tokenizer) -> Result<Rc<TaskData>> {
        let task = datasets::tasks::find(&spec.task)?;
        let (max_length, train_limit) = (spec.train.max_length, spec.data.train_limit);
        let key = EncodedKey { task: task.name, split: spec.data.split, max_length, train_limit };
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

fn encode(dataset: &Dataset, key: &EncodedKey, tokenizer: &Tokenizer) -> Result<TaskData> {
    let split = split::split(dataset, key.split);
    let encode = |rows: &[Example]| Ok::<_, Error>(tokenizer.encode_all(rows, key.max_length)?);
    let limit = key.train_limit.unwrap_or(usize::MAX).min(split.train.len());
    if limit == 0 {
        return Err(Error::Usage(format!("task {} has no training row to learn from", key.task)));
    }
    let dev_set = |set: &split::DevSplit| {
        Ok(DevData {
            name: set.name,
            validation: encode(&set.validation)?,
            test: encode(&set.test)?,
            is_one_set: set.validation == set.test,
        })
    };
    Ok(TaskData {
        task: dataset.task,
        train: encode(&split.train[..limit])?,
        dev_sets: split.dev_sets.iter().map(dev_set).collect::<Result<_>>()?,
        files: dataset.files.clone(),
        seconds: Cell::new(0.0),
    })
}
