//! The frozen backbone with its tokenizer, as a run reads it.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use datasets::Task;
use datasets::hub::{is_plain, is_repository};
use datasets::tokenizer::{Behaviour, Embeddings, Tokenizer};
use encoders::Encoder;
use methods::adapter::pissa::PrincipalComponents;
use sha2::{Digest, Sha256};
use tch::{Device, Kind};

use crate::env::micro_batch::MicroBatch;
use crate::env::output;
use crate::error::{Error, Result};
use crate::load::paths::{self, BackbonePath};
use crate::plan::external::StatedBackbone;
use crate::plan::spec::BackboneSpec;

/// The backbone on its device.
pub struct Backbone {
    /// The encoder in the host's memory, float32: target modules, head and start values of what trains the backbone itself.
    pub encoder: Rc<dyn Encoder>,
    /// On the device, once a run asks for it: the kind asked for last. Another kind's would be part of a run's peak memory.
    on_device: RefCell<Option<(Kind, Rc<dyn Encoder>)>>,
    /// Principal components of its weights, for the runs that start from them.
    pub components: PrincipalComponents,
    /// Seconds spent on reading, not yet counted in a run.
    seconds: Cell<f64>,
    dir: PathBuf,
    /// Whether training steps on a GPU are recorded as CUDA graphs.
    pub graphs: bool,
    /// Most rows that a training step takes at a time; none: all of a batch.
    pub micro_batch: Option<MicroBatch>,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Where it lies.
    pub device: Device,
    /// By name and content.
    pub spec: BackboneSpec,
    /// Files read, with their sha256.
    pub files: Vec<(String, String)>,
}

impl Backbone {
    /// Reads a backbone.
    ///
    /// # Errors
    /// A missing or damaged file, an architecture or option that is not supported, a tokenizer of another model.
    pub fn load(place: &BackbonePath, behaviour: Behaviour, device: Device, graphs: bool) -> Result<Self> {
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
        let spec = BackboneSpec { name, weights_sha256, sha256, tokenizer: tokenizer_behaviour };
        let (on_device, dir, seconds) = (RefCell::default(), dir.clone(), started.elapsed().as_secs_f64().into());
        let micro_batch = None;
        let components = PrincipalComponents::default();
        Ok(Backbone {
            encoder,
            on_device,
            components,
            seconds,
            dir,
            graphs,
            micro_batch,
            tokenizer,
            device,
            spec,
            files,
        })
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
    /// As [`Backbone::load`].
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

/// Name and weights of a backbone that a run was made with elsewhere. It is not read: its sum is that of its files where it is here, else
/// that of a known backbone of this name, else it is not stated.
///
/// # Errors
/// Files that cannot be read; a path that leads nowhere.
pub fn stated(name: &str) -> Result<StatedBackbone> {
    let (name, weights_sha256) = match paths::local(name) {
        Some(place) => (place.name, weights_sum(&encoders::checkpoint::checksums::checksums(&place.dir)?)),
        None => {
            if !is_plain(name) && !is_repository(name) {
                return Err(Error::Usage(format!(
                    "backbone '{name}' is no directory: expected one, or a name (all-MiniLM-L6-v2, owner/name)"
                )));
            }
            let known = datasets::backbones::named(name).or_else(|| datasets::backbones::of_repository(name));
            (name.to_string(), known.and_then(|known| known.weights.first()).cloned().unwrap_or_default())
        }
    };
    let known = datasets::backbones::find(&weights_sha256);
    Ok(StatedBackbone { name: known.map_or(name, |known| known.name.clone()), weights_sha256 })
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
