//! Parts that several commands share: flags over a recipe, and the way from a recipe to a plan.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use datasets::Task;
use datasets::hub::Hub;
use datasets::sources::fetch;
use datasets::tokenizer::Behaviour;
use tch::Device;
use torch_ext::nvrtc::Compiling;

use crate::cli::task_files::TaskFiles;
use crate::cli::values::{self, Names, Seeds, Targets};
use crate::env::device::{self, Choice};
use crate::env::micro_batch::MicroBatch;
use crate::env::output;
use crate::env::signals;
use crate::error::{Error, Result};
use crate::load::backbone::Backbone;
use crate::load::download;
use crate::load::paths;
use crate::load::task_data::{RowSource, TaskCache};
use crate::plan::origin::RecipeRules;
use crate::plan::recipe;
use crate::plan::recipe::{Recipe, RecipeChanges, Source};
use crate::plan::resolve::{self, PlanContext};
use crate::plan::spec::{Precision, RunSpec};
use crate::train::run_stack::RunStack;

/// Bytes of a line of `predictions.csv`.
const LINE: usize = 24;
/// Bytes of all small files of a run.
const SMALL_FILES: usize = 16 << 10;

/// Flags that override a recipe.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Instead of the recipe's own")]
pub struct RecipeFlags {
    /// Tasks, separated by commas, or `all`; `rankbench list tasks` names them.
    #[arg(long, value_parser = values::tasks)]
    pub tasks: Option<Names>,
    /// Methods, separated by commas, or `all`; `rankbench list methods` names them with their options.
    #[arg(long, value_parser = values::methods)]
    pub methods: Option<Names>,
    /// Master seeds, separated by commas; 0-4 is 0,1,2,3,4.
    #[arg(long, value_parser = values::seeds)]
    pub seeds: Option<Seeds>,
    /// Backbone: a directory, the name of one below .cache/backbones, or a repository on the Hub (owner/name, also
    /// owner/name@revision).
    #[arg(long)]
    pub backbone: Option<String>,
    /// How a sentencepiece vocabulary is read: sentencepiece (as the released code) or fast (as transformers 4.57).
    #[arg(long)]
    pub tokenizer: Option<Behaviour>,
    /// Passes over the training rows.
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Rows of one step.
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// Peak learning rate.
    #[arg(long)]
    pub lr: Option<f64>,
    /// Rank: r of LoRA and SoRA, target_r of AdaLoRA, which starts with half as much again.
    #[arg(long, value_name = "R")]
    pub rank: Option<u32>,
    /// Linears that get a low-rank branch, as in PEFT's target_modules: names separated by commas (query,value), or all-linear.
    /// Methods without branches stay as they are.
    #[arg(long, value_name = "NAMES", value_parser = values::targets)]
    pub targets: Option<Targets>,
    /// Number format.
    #[arg(long)]
    pub precision: Option<Precision>,
    /// Most training rows used, the first ones.
    #[arg(long)]
    pub train_limit: Option<usize>,
    /// Set anything of the recipe, over everything else: [METHOD.]KEY=VALUE[,VALUE…], e.g. options.r=4, sora.options.xi=1e-3 or
    /// lora.target_modules=[query,value]; several values multiply the runs, a list in brackets is one. Can be given again.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Form of SoRA: as the released code runs, or as the paper describes it; as the recipe says where it is left out.
    #[arg(long, value_name = "FORM")]
    pub variant: Option<Variant>,
    #[command(flatten)]
    pub data: DataFlags,
    #[command(flatten)]
    pub machine: MachineFlags,
}

/// How the machine is used; the results do not depend on it but for rounding.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Machine")]
pub struct MachineFlags {
    /// Where to run.
    #[arg(long, default_value = "auto")]
    pub device: Choice,
    /// Seconds between two checkpoints of a run in work; written less often where that would cost more than 1 % of the time.
    #[arg(long, default_value = "60", value_name = "SECONDS")]
    pub checkpoint_every: u64,
    /// Steps between two lines of a run's steps.csv; 0 for none. Left out: a 200th of the run's steps, at least 1.
    #[arg(long, value_name = "N")]
    pub log_steps: Option<usize>,
    /// Whether training steps on a GPU are recorded as CUDA graphs.
    #[arg(long, default_value = "on")]
    pub graphs: Graphs,
    /// Take a training step in parts of at most so many rows, for less memory: `auto` halves them whenever memory runs out.
    /// The steps are those of the whole batch within rounding. Left out: the whole batch.
    #[arg(long, value_name = "auto|ROWS")]
    pub micro_batch: Option<MicroBatch>,
    /// Which kernels a GPU uses.
    #[arg(long, default_value = "fused")]
    pub kernels: Kernels,
}

/// Where rows come from.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Data")]
pub struct DataFlags {
    /// Directory with real GLUE: the official TSV files (plain, .gz, .zst) or the Hub's parquet files. Left out: GLUE_DIR,
    /// or else the Hub.
    #[arg(long, value_name = "DIR")]
    pub glue: Option<PathBuf>,
    #[command(flatten)]
    pub own: TaskFiles,
    /// Use the embedded synthetic data whatever the recipe says.
    #[arg(long, conflicts_with = "glue")]
    pub micro: bool,
    /// Take data files that differ from the lock.
    #[arg(long)]
    pub allow_unlocked: bool,
}

/// `--kernels`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kernels {
    /// Our own where there is one; nothing changes on a CPU.
    Fused,
    /// libtorch's operations only.
    Plain,
}

/// `--graphs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Graphs {
    /// Recorded; nothing changes on a CPU.
    On,
    /// Every step is launched operation by operation.
    Off,
}

/// `--variant`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Variant {
    /// L1 term in the loss, constant threshold, dead zone 2ξ.
    Released,
    /// Proximal map alone, with a threshold that falls with the learning rate.
    Paper,
}

/// Everything a command works on.
pub struct Job {
    /// The recipe with every flag folded in.
    pub recipe: Recipe,
    /// The runs.
    pub plan: Vec<RunSpec>,
    /// The backbone.
    pub backbone: Backbone,
    /// The rows.
    pub data: TaskCache,
    /// Recipe and rules of the runs.
    pub origin: RecipeRules,
    /// Set by a stop signal.
    pub stop: Arc<AtomicBool>,
    /// Time between two checkpoints of a run.
    pub checkpoint_every: Duration,
    /// Steps between two rows of a run's `steps.csv`; none where nobody says, 0 for no rows.
    pub log_steps: Option<usize>,
    /// Why steps do without the kernels that were asked for; `None` where they have them, or none were.
    pub plain_because: Option<String>,
}

impl RecipeFlags {
    /// The recipe with what the flags change.
    ///
    /// # Errors
    /// A value that cannot be set.
    pub fn changed(&self, recipe: &Recipe) -> Result<Recipe> {
        let count = |value: usize| toml::Value::Integer(value as i64);
        let fields = [
            ("epochs", self.epochs.map(count)),
            ("batch_size", self.batch_size.map(count)),
            ("lr", self.lr.map(toml::Value::Float)),
            ("precision", self.precision.map(|precision| precision.name().into())),
        ];
        let mut changed = recipe.clone().with(RecipeChanges {
            tasks: self.tasks.clone().map(|names| names.0),
            methods: self.methods.clone().map(|names| names.0),
            seeds: self.seeds.clone().map(|seeds| seeds.0),
            train: fields.into_iter().filter_map(|(field, value)| Some((field.to_string(), value?))).collect(),
            train_limit: self.train_limit,
            overrides: [self.rank.map(values::ranks), self.targets.as_ref().map(values::target_modules)]
                .into_iter()
                .flatten()
                .flatten()
                .collect(),
        });
        let variant = self.variant.and_then(|variant| Some(variant.to_possible_value()?.get_name().to_string()));
        variant.map_or(Ok(()), |variant| changed.set(&format!("sora.options.variant={variant}")))?;
        self.set.iter().try_for_each(|text| changed.set(text))?;
        Ok(changed)
    }

    /// Reads backbone and rows and resolves every run.
    ///
    /// # Errors
    /// A wrong name or value, input that cannot be read, a device that is not there.
    pub fn job(&self, recipe: &Recipe) -> Result<Job> {
        self.data.own.read()?;
        self.job_of(&self.changed(recipe)?)
    }

    /// The same for a recipe with the flags folded in, once the tasks of files are known.
    ///
    /// # Errors
    /// As [`RecipeFlags::job`].
    pub fn job_of(&self, recipe: &Recipe) -> Result<Job> {
        // Names are checked first: a slip must not cost the loading of a backbone.
        let tasks = resolve::tasks(recipe)?;
        resolve::methods(recipe)?;
        let device = self.machine.device.device()?;
        let hub = download::hub();
        let origin = self.data.origin(recipe.data.source, &tasks, &hub);
        let place = paths::backbone(self.backbone.as_deref().unwrap_or(&recipe.backbone), &hub);
        let (data, place) = match (origin, place) {
            (Ok(origin), Ok(place)) => (TaskCache::new(origin), place),
            // Without a network both are missing: whoever gets them by hand wants to know at once.
            (Err(Error::Input(data)), Err(Error::Input(backbone))) => {
                return Err(Error::Input(format!("{data}\n{backbone}")));
            }
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        // From here on a signal stops at a step: a batch job may be told to save itself while its backbone is read.
        let stop = signals::stop_flag()?;
        let started = Instant::now();
        let kernels = (self.machine.kernels == Kernels::Fused).then(|| PendingKernels::begin(device));
        let behaviour = self.tokenizer.unwrap_or(recipe.tokenizer);
        let mut backbone = Backbone::load(&place, behaviour, device, self.machine.graphs == Graphs::On)?;
        backbone.micro_batch = self.machine.micro_batch;
        backbone.check(&tasks, self.tokenizer)?;
        output::note(format_args!("backbone {} read in {:.1} s", backbone.spec.name, started.elapsed().as_secs_f64()));
        let origin = resolve::origin(recipe)?;
        let mut job = Job {
            recipe: recipe.clone(),
            plan: Vec::new(),
            backbone,
            data,
            origin,
            stop,
            checkpoint_every: Duration::from_secs(self.machine.checkpoint_every),
            log_steps: self.machine.log_steps,
            plain_because: None,
        };
        job.plan = job.plan_of(recipe)?;
        job.plain_because = kernels.and_then(PendingKernels::load);
        Ok(job)
    }
}

impl Job {
    /// The runs of a recipe on this job's backbone and rows.
    ///
    /// # Errors
    /// As [`resolve::plan`]; a split that leaves a set empty.
    pub fn plan_of(&self, recipe: &Recipe) -> Result<Vec<RunSpec>> {
        let context = PlanContext {
            backbone: self.backbone.spec.clone(),
            max_positions: self.backbone.encoder.info().max_positions,
            device: device::kind(self.backbone.device).into(),
            dataset: &|task| self.data.dataset(task),
        };
        let plan = resolve::plan(recipe, &context)?;
        plan.iter().try_for_each(|spec| self.data.check_split(spec))?;
        Ok(plan)
    }

    /// Mebibytes that a finished run takes: its adapter with the head, and its predictions.
    ///
    /// # Errors
    /// Options that do not fit the run.
    pub fn disk_mib(&self, spec: &RunSpec) -> Result<f64> {
        let task = self.data.of_run(spec, &self.backbone.tokenizer)?;
        let stack = RunStack::new(&[spec], &self.backbone, &task)?;
        let values = stack.state(0).params().numel() as usize;
        let rows: usize = task.dev_sets.iter().map(|set| set.validation.len() + set.test.len()).sum();
        Ok((4 * values + LINE * rows + SMALL_FILES) as f64 / f64::from(1 << 20))
    }
}

impl DataFlags {
    /// The recipe's source, unless a flag says another.
    fn source(&self, recipe: Source) -> Source {
        match (self.micro, &self.glue) {
            (true, _) => Source::Micro,
            (false, Some(_)) => Source::Glue,
            (false, None) => recipe,
        }
    }

    /// The rows of one task: GLUE's, unless a flag says another source.
    ///
    /// # Errors
    /// As [`DataFlags::origin`].
    pub fn of_task(&self, task: &'static Task) -> Result<TaskCache> {
        Ok(TaskCache::new(self.origin(Source::Glue, &[task], &download::hub())?))
    }

    /// The rows of `tasks`; real ones that nothing names are fetched from the Hub.
    ///
    /// # Errors
    /// Files of the Hub that cannot be had.
    pub fn origin(&self, source: Source, tasks: &[&'static Task], hub: &Hub) -> Result<RowSource> {
        // A user's own task is in its own files, wherever the others are.
        let tasks: Vec<&'static Task> = tasks.iter().copied().filter(|task| task.file.is_none()).collect();
        if self.source(source) == Source::Micro || tasks.is_empty() {
            return Ok(RowSource::Micro);
        }
        let given = self.glue.clone().or_else(|| std::env::var_os("GLUE_DIR").map(PathBuf::from));
        let dirs = match given {
            Some(dir) => tasks.iter().map(|task| (task.name, dir.clone())).collect(),
            None => fetch::fetch(hub, &tasks)?,
        };
        Ok(RowSource::Glue { dirs, allow_unlocked: self.allow_unlocked })
    }
}

/// Our kernels on their way to a GPU; none on a CPU.
pub struct PendingKernels(Option<torch_ext::Result<Compiling>>);

impl PendingKernels {
    /// Begins to compile them: whatever needs no kernel is done meanwhile.
    pub fn begin(device: Device) -> Self {
        match device {
            Device::Cuda(index) => PendingKernels(Some(Compiling::begin(index))),
            _ => PendingKernels(None),
        }
    }

    /// Makes them ready. Without them steps are slower, and not wrong: the reason is noted, and returned for commands that measure time.
    pub fn load(self) -> Option<String> {
        let reason = self.0?.and_then(Compiling::load).err()?.to_string();
        output::note(format_args!("{reason}; without our kernels (--kernels plain) steps are several times slower"));
        Some(reason)
    }
}

/// A recipe by path, or by the name of an embedded one.
///
/// # Errors
/// Neither a file nor a name; a recipe that does not parse.
pub fn recipe(path_or_name: &str) -> Result<Recipe> {
    let path = std::path::Path::new(path_or_name);
    let name = path_or_name.trim().to_lowercase();
    match recipe::embedded(&name) {
        Some(text) if !path.is_file() => Recipe::parse(text, &name),
        _ if path.is_file() => Recipe::read(path),
        _ => Err(Error::Usage(values::no_recipe(path_or_name))),
    }
}

/// Columns of the terminal, or what fits a page where there is none.
pub fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.or_else(terminal_width).unwrap_or(160)
}

fn terminal_width() -> Option<usize> {
    std::io::stdout().is_terminal().then(|| usize::from(console_width()))
}

fn console_width() -> u16 {
    // SAFETY: a zeroed winsize is valid, and the call only fills it in.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: as above; a failure leaves zeroes.
    unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) };
    if size.ws_col == 0 { 160 } else { size.ws_col }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_cannot_be_loaded_have_a_reason() {
        let failed = PendingKernels(Some(Err(torch_ext::Error::Cuda("no compiler".into()))));
        assert!(failed.load().is_some_and(|reason| reason.contains("no compiler")));
        assert_eq!(PendingKernels::begin(Device::Cpu).load(), None);
    }
}
