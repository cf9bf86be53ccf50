//! An adapter on its backbone, ready to predict rows of a task.

use std::path::Path;

use clap::Args;
use datasets::batch::Padding;
use datasets::tokenizer::{Behaviour, TokenizedExample};
use datasets::{Example, Task};
use encoders::Attach;
use methods::peft::files::PeftFiles;
use methods::peft::format::TrainedAdapter;
use methods::registry::read_adapter;
use tch::{Kind, Tensor};

use crate::cli::merge;
use crate::env::device::Choice;
use crate::env::output;
use crate::error::{Error, Result};
use crate::load::backbone::Backbone;
use crate::load::download;
use crate::load::paths;
use crate::store::adapter_task;
use crate::train::classifier::SequenceClassifier;
use crate::train::evaluate::{Predictions, predict};
use crate::train::loader::Collator;

/// Configuration of an adapter.
pub const CONFIG: &str = "adapter_config.json";
/// Weights of an adapter.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// How an adapter is evaluated.
#[derive(Debug, Clone, Args)]
pub struct EvaluationFlags {
    /// How a sentencepiece vocabulary is read; sentencepiece where it is left out.
    #[arg(long, requires = "adapter")]
    tokenizer: Option<Behaviour>,
    /// Longest input in tokens; the task's own where it is left out.
    #[arg(long, requires = "adapter")]
    max_length: Option<usize>,
    /// Where to run.
    #[arg(long, default_value = "auto")]
    device: Choice,
}

/// An adapter attached to its backbone.
pub struct AttachedAdapter {
    task: &'static Task,
    backbone: Backbone,
    trained: Box<dyn TrainedAdapter>,
    attached: Box<dyn Attach>,
    head: Vec<Tensor>,
    max_length: usize,
}

impl AttachedAdapter {
    /// Reads an adapter in PEFT's layout and its backbone.
    ///
    /// # Errors
    /// An adapter of another task or backbone; a file that is missing or damaged.
    pub fn load(adapter: &Path, backbone: &str, task: &'static Task, flags: &EvaluationFlags) -> Result<Self> {
        check_task(adapter, task)?;
        let place = paths::backbone(backbone, &download::hub())?;
        let backbone = Backbone::load(&place, flags.tokenizer.unwrap_or_default(), flags.device.device()?, false)?;
        backbone.check(&[task], flags.tokenizer)?;
        let trained = read_adapter(adapter, backbone.encoder.as_ref())?;
        tell(trained.as_ref());
        let attached = trained.attach(backbone.encoder_in(Kind::Float)?.as_ref())?;
        let outputs = task.labels.outputs() as i64;
        let head = merge::head(trained.as_ref(), backbone.encoder.as_ref(), outputs, adapter)?;
        let head = head.into_iter().map(|(_, tensor)| tensor.to_device(backbone.device)).collect();
        let max_length = flags.max_length.unwrap_or(task.max_length).min(backbone.encoder.info().max_positions);
        Ok(AttachedAdapter { task, backbone, trained, attached, head, max_length })
    }

    /// Its backbone.
    pub fn backbone(&self) -> &Backbone {
        &self.backbone
    }

    /// Predicts rows, in float32.
    ///
    /// # Errors
    /// A row that cannot be tokenised; a failure on the device.
    pub fn predict(&self, examples: &[Example]) -> Result<(Vec<TokenizedExample>, Predictions)> {
        let classifier = SequenceClassifier::new(self.backbone.encoder_in(Kind::Float)?, self.task);
        let collator = Collator::new(&self.backbone, self.task, Kind::Float, Padding::Bucket(8), self.max_length);
        let encoded = self.backbone.tokenizer.encode_all(examples, self.max_length)?;
        let predicted = predict(&classifier, &collator, (&self.head, self.attached.as_ref()), &encoded, 1)?;
        Ok((encoded, predicted))
    }

    /// Its files in PEFT's layout; the configuration names the task.
    ///
    /// # Errors
    /// A tensor that cannot be serialised.
    pub fn files(&self) -> Result<PeftFiles> {
        let mut files = self.trained.write(&self.backbone.spec.name)?;
        files.config["auto_mapping"] = adapter_task::mapping(self.task.name);
        Ok(files)
    }
}

/// Refuses an adapter whose configuration names another task.
fn check_task(adapter: &Path, task: &Task) -> Result<()> {
    // A configuration that cannot be read is said when the adapter is.
    let config: Option<serde_json::Value> =
        std::fs::read(adapter.join(CONFIG)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    match config.as_ref().and_then(adapter_task::task) {
        Some(own) if own != task.name => Err(Error::Usage(format!(
            "{} was trained on {own}, as its {CONFIG} says, and not on {}: give --task {own}",
            adapter.display(),
            task.name
        ))),
        _ => Ok(()),
    }
}

/// Tells the notes of an adapter that was read.
pub fn tell(trained: &dyn TrainedAdapter) {
    trained.notes().iter().for_each(output::note);
}
