//! The files of an adapter: `adapter_config.json` and `adapter_model.safetensors`, or PEFT's `adapter_model.bin`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use encoders::{Encoder, TensorFile};
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::Value;
use tch::{Kind, Tensor};

use crate::error::{Result, damaged};
use crate::peft::config::PeftConfig;
use crate::peft::names::{Part, parse};
use crate::peft::settings::Settings;

/// Start of every name in PEFT's files.
pub(crate) const PREFIX: &str = "base_model.model.";
const CONFIG: &str = "adapter_config.json";
/// The first that is there counts, as in PEFT.
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// An adapter's files as they are written.
pub struct PeftFiles {
    /// `adapter_config.json`.
    pub config: Value,
    /// `adapter_model.safetensors`.
    pub weights: Vec<u8>,
}

impl PeftFiles {
    /// Configuration and tensors, which get PEFT's prefix.
    ///
    /// # Errors
    /// A tensor that cannot be serialised.
    pub(crate) fn new(config: Value, tensors: impl Iterator<Item = (String, Tensor)>) -> Result<Self> {
        let tensors = tensors.map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor)).collect();
        Ok(PeftFiles { config, weights: safetensors_bytes(&tensors)? })
    }
}

/// An adapter's directory, its configuration read, on its way to a backbone.
pub struct AdapterDir<'a> {
    dir: PathBuf,
    /// Its configuration.
    pub config: PeftConfig,
    /// The backbone.
    pub encoder: &'a dyn Encoder,
}

/// Tensors by module and part.
pub(crate) type Parts = BTreeMap<(String, Part), Tensor>;

/// The tensors of a file under the names of a model with a head.
pub(crate) struct StoredTensors {
    pub path: PathBuf,
    pub parts: Parts,
    /// Whether the file has the names of a model without a head.
    pub is_bare: bool,
}

impl<'a> AdapterDir<'a> {
    /// Reads the configuration.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub fn open(dir: &Path, encoder: &'a dyn Encoder) -> Result<Self> {
        Ok(AdapterDir { config: PeftConfig::read(&dir.join(CONFIG))?, dir: dir.to_path_buf(), encoder })
    }

    /// Path of the configuration.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join(CONFIG)
    }

    /// The configuration, typed and checked.
    ///
    /// # Errors
    /// A field that is not supported or has another type.
    pub(crate) fn settings(&self, is_adalora: bool) -> Result<Settings> {
        let model_type = self.encoder.info().prefix.trim_end_matches('.');
        Settings::read(&self.config, is_adalora, model_type).map_err(|e| damaged(&self.config_path(), e))
    }

    /// Every tensor by module and part.
    ///
    /// # Errors
    /// A file that is missing or damaged; a part that is not supported; a tensor that is doubled or not finite.
    pub(crate) fn tensors(&self) -> Result<StoredTensors> {
        let path = self.weights_file()?;
        let file = TensorFile::open(&path).map_err(|e| match e {
            encoders::Error::Unreadable { path, reason, help } => damaged(&path, format!("{reason}; {help}")),
            other => damaged(&path, other),
        })?;
        let names = ModelNames::of(&file, self.encoder);
        let (mut parts, mut sources) = (Parts::new(), BTreeMap::new());
        for name in file.names() {
            let Some((module, part)) = parse(bare(name)).map_err(|e| damaged(&path, e))? else { continue };
            let key = (names.with_head(module), part);
            if let Some(first) = sources.insert(key.clone(), name) {
                let detail = format!("doubled: {first} and {name} are the same tensor; remove one of them");
                return Err(damaged(&path, detail));
            }
            let tensor = encoders::error::caught(&path, || Ok::<_, encoders::Error>(file.read(name)));
            let tensor = tensor.map_err(|e| damaged(&path, e))?.map_err(|e| damaged(&path, e))?;
            parts.insert(key, tensor);
        }
        Ok(StoredTensors { is_bare: names.is_bare, path, parts })
    }

    fn weights_file(&self) -> Result<PathBuf> {
        let found = WEIGHTS.map(|name| self.dir.join(name)).into_iter().find(|path| path.exists());
        let missing = || format!("No such file or directory, and no {}", WEIGHTS[1]);
        found.ok_or_else(|| damaged(&self.dir.join(WEIGHTS[0]), missing()))
    }
}

/// The tensors of an adapter without branches.
pub(crate) struct PlainTensors {
    pub path: PathBuf,
    /// By their whole name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl AdapterDir<'_> {
    /// Every tensor of an adapter without branches.
    ///
    /// # Errors
    /// As [`AdapterDir::settings`] and [`AdapterDir::tensors`]; a field or a part of a branch.
    pub(crate) fn plain_tensors(&self) -> Result<PlainTensors> {
        if self.settings(false)?.use_dora {
            let detail = format!("use_dora is true, which {} has not", self.config.peft_type());
            return Err(damaged(&self.config_path(), detail));
        }
        let peft_type = self.config.peft_type();
        let StoredTensors { path, parts, .. } = self.tensors()?;
        let named = parts.into_iter().map(|((name, part), tensor)| match part {
            Part::Plain => Ok((name, tensor)),
            part => {
                let detail = format!("surplus: {name} has a part {part:?} of LoRA, but peft_type is {peft_type}");
                Err(damaged(&path, detail))
            }
        });
        let tensors = named.collect::<Result<_>>()?;
        Ok(PlainTensors { path, tensors })
    }
}

/// Names of a file's modules: PEFT writes those of the model that it adapted, which may be one without a head.
struct ModelNames {
    prefix: &'static str,
    /// First parts of the backbone's names without prefix, e.g. `encoder.` and `embeddings.`.
    own: BTreeSet<String>,
    has_pooler: bool,
    is_bare: bool,
}

impl ModelNames {
    fn of(file: &TensorFile, encoder: &dyn Encoder) -> Self {
        let prefix = encoder.info().prefix;
        let starts = |start: &str| file.names().any(|name| bare(name).starts_with(start));
        let weights = encoder.info().weights.iter();
        let own = weights.filter_map(|(name, _)| name.strip_prefix(prefix)?.split_inclusive('.').next());
        let own: BTreeSet<String> = own.map(str::to_string).collect();
        let is_bare = !starts(prefix) && own.iter().any(|part| starts(part));
        let pooler = format!("{prefix}pooler.dense.weight");
        let has_pooler = encoder.new_head(1, 0).params.iter().any(|param| param.name == pooler);
        ModelNames { prefix, own, has_pooler, is_bare }
    }

    /// The name in a model with a head.
    fn with_head(&self, name: String) -> String {
        let is_own = self.own.iter().any(|part| name.starts_with(part));
        let is_own = is_own || self.has_pooler && name.starts_with("pooler.");
        if self.is_bare && is_own { format!("{}{name}", self.prefix) } else { name }
    }
}

fn bare(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

/// Named tensors as the bytes of a safetensors file, float32.
///
/// # Errors
/// A tensor that cannot be serialised.
pub fn safetensors_bytes(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>> {
    let file = Path::new("the safetensors file");
    let stored =
        tensors.iter().map(|(name, tensor)| Ok((name, tensor.size(), bytes(tensor)?))).collect::<Result<Vec<_>>>()?;
    let views = stored.iter().map(|(name, shape, data)| {
        let shape = shape.iter().map(|&n| n as usize).collect();
        Ok((*name, TensorView::new(Dtype::F32, shape, data).map_err(|e| damaged(file, e))?))
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    serialize(views, Some(metadata)).map_err(|e| damaged(file, e))
}

fn bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let flat = tensor.detach().to_device(tch::Device::Cpu).to_kind(Kind::Float).contiguous().flatten(0, -1);
    let mut bytes = vec![0u8; 4 * flat.numel()];
    flat.f_copy_data_u8(&mut bytes, flat.numel())?;
    Ok(bytes)
}
