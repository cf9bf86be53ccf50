//! Reads adapters in PEFT's file layout: what [`crate::peft::export`] writes, and what PEFT itself saved (LoRA and AdaLoRA).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use encoders::checkpoint::file::{foreign, is_finite};
use encoders::{Attach, Encoder, TargetModule, TensorFile};
use serde_json::{Map, Value};
use tch::{Device, Tensor};

use crate::adapter::lora_layer::{LoraLayer, LoraLayers, LoraWeights};
use crate::error::{Error, Result};
use crate::peft::export::{Exported, PREFIX, damaged};
use crate::peft::names::{Part, parse};
use crate::peft::settings::Settings;
use crate::tuners::base_weights::ReplacedWeights;
use crate::tuners::bottleneck::Bottlenecks;

/// PEFT's low-rank kinds, and ours of what PEFT does not know.
const KINDS: &[&str] = &["LORA", "ADALORA", "FULL", "BITFIT", "BOTTLENECK"];
const CONFIG: &str = "adapter_config.json";
/// The first that is there counts, as in PEFT.
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

/// The tensors of a file by module and part.
type Tensors = BTreeMap<(String, Part), Tensor>;

impl Exported {
    /// Reads the adapter in `dir` for a backbone.
    ///
    /// # Errors
    /// A missing or damaged file, a kind of adapter or a field that is not supported; a tensor that is missing, surplus, doubled,
    /// of another shape, or not finite.
    pub fn read(dir: &Path, encoder: &dyn Encoder) -> Result<Self> {
        let config_path = dir.join(CONFIG);
        let config = read_config(&config_path)?;
        let kind = config["peft_type"].as_str().unwrap_or_default();
        let model_type = encoder.info().prefix.trim_end_matches('.');
        // The configuration first: what it names is not to be guessed from the tensors.
        let settings = Settings::read(&config, model_type).map_err(|e| damaged(&config_path, e))?;
        let path = weights_file(dir)?;
        let (stored, is_bare) = read_tensors(&path, encoder)?;
        let read = if matches!(kind, "LORA" | "ADALORA") {
            let notes = Vec::new();
            LowRank { encoder, settings, is_bare, path: &path, config: config_path, stored, notes }.read()?
        } else {
            own(kind, stored, &path)?
        };
        read.check_fits(encoder)?;
        read.check_whole(encoder).map_err(|e| damaged(&path, e))?;
        Ok(read)
    }
}

fn read_config(path: &Path) -> Result<Map<String, Value>> {
    let bytes = std::fs::read(path).map_err(|e| damaged(path, e))?;
    if let Some(what) = foreign(&bytes) {
        return Err(damaged(path, format!("{what}; expected a JSON object")));
    }
    let config: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|e| damaged(path, e))?;
    let kind = config.get("peft_type").unwrap_or(&Value::Null);
    if kind.as_str().is_some_and(|kind| KINDS.contains(&kind)) {
        return Ok(config);
    }
    let kind = kind.as_str().map_or_else(|| kind.to_string(), str::to_string);
    Err(damaged(path, format!("peft_type is {kind}, expected one of {}", KINDS.join(", "))))
}

fn weights_file(dir: &Path) -> Result<PathBuf> {
    let found = WEIGHTS.map(|name| dir.join(name)).into_iter().find(|path| path.exists());
    found.ok_or_else(|| damaged(&dir.join(WEIGHTS[0]), format!("No such file or directory, and no {}", WEIGHTS[1])))
}

/// Every tensor by module and part, under the names of a model with a head, and whether the file has those of a model without.
fn read_tensors(path: &Path, encoder: &dyn Encoder) -> Result<(Tensors, bool)> {
    let file = TensorFile::open(path).map_err(|e| match e {
        encoders::Error::Unreadable { path, reason, help } => damaged(&path, format!("{reason}; {help}")),
        other => damaged(path, other),
    })?;
    let prefix = encoder.info().prefix;
    let bare = |name: &str| name.strip_prefix(PREFIX).unwrap_or(name).to_string();
    let starts = |start: &str| file.names().any(|name| bare(name).starts_with(start));
    // First parts of the backbone's names without prefix, e.g. `encoder.` and `embeddings.`.
    let weights = encoder.info().weights.iter();
    let own = weights.filter_map(|(name, _)| name.strip_prefix(prefix)?.split_inclusive('.').next());
    let own: std::collections::BTreeSet<&str> = own.collect();
    let is_bare = !starts(prefix) && own.iter().any(|part| starts(part));
    let pooler = format!("{prefix}pooler.dense.weight");
    let has_pooler = encoder.new_head(1, 0).params.iter().any(|param| param.name == pooler);
    // A model without a head has no prefix: its own modules get it.
    let named = |name: String| {
        let is_own = own.iter().any(|part| name.starts_with(part));
        let is_own = is_own || has_pooler && name.starts_with("pooler.");
        if is_bare && is_own { format!("{prefix}{name}") } else { name }
    };
    let (mut tensors, mut sources) = (Tensors::new(), BTreeMap::new());
    for name in file.names() {
        let Some((module, part)) = parse(&bare(name)).map_err(|e| damaged(path, e))? else { continue };
        let key = (named(module), part);
        if let Some(first) = sources.insert(key.clone(), name) {
            return Err(damaged(path, format!("doubled: {first} and {name} are the same tensor; remove one of them")));
        }
        let tensor = encoders::error::caught(path, || Ok::<_, encoders::Error>(file.read(name)));
        let tensor = tensor.map_err(|e| damaged(path, e))?.map_err(|e| damaged(path, e))?;
        tensors.insert(key, tensor);
    }
    Ok((tensors, is_bare))
}

/// An adapter of one of our own kinds: every tensor by its name.
fn own(kind: &str, stored: Tensors, path: &Path) -> Result<Exported> {
    let named = stored.into_iter().map(|((name, part), tensor)| match part {
        Part::Plain => Ok((name, tensor)),
        part => Err(damaged(path, format!("surplus: {name} has a part {part:?} of LoRA, but peft_type is {kind}"))),
    });
    let tensors = named.collect::<Result<_>>()?;
    Ok(Exported { factors: BTreeMap::new(), tensors, kind: kind.into(), notes: Vec::new() })
}

/// A LORA or ADALORA file on its way to what it does to a backbone.
struct LowRank<'a> {
    encoder: &'a dyn Encoder,
    settings: Settings,
    is_bare: bool,
    path: &'a Path,
    config: PathBuf,
    stored: Tensors,
    notes: Vec<String>,
}

/// A module that LoRA may adapt.
struct Module {
    path: String,
    d_in: i64,
    d_out: i64,
    place: Place,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    TargetModule,
    /// The linear of the head that may be pre-trained: its ΔW is folded into it.
    Pooler,
    /// A table: its ΔW is folded into it.
    Embedding,
}

/// Factors of one module.
struct Factors {
    a: Tensor,
    b: Tensor,
    e: Option<Tensor>,
    bias: Option<Tensor>,
}

impl LowRank<'_> {
    fn read(mut self) -> Result<Exported> {
        let modules = self.modules();
        let (mut factors, mut folded) = (BTreeMap::new(), Vec::new());
        let (mut targets, mut missing) = (Vec::new(), Vec::new());
        for module in modules {
            let name = self.peft_name(&module.path).to_string();
            let is_linear = module.place != Place::Embedding;
            if !self.in_config(self.settings.is_target(&name, is_linear))? {
                continue;
            }
            targets.push(module.path.clone());
            let Some(found) = self.take(&module, &name)? else {
                missing.push(module.path);
                continue;
            };
            let scale = self.in_config(self.settings.scale(&name))?;
            if let Some(bias) = &found.bias {
                folded.push((format!("{}.bias", module.path), bias * scale));
            }
            let gate = found.e.map(|e| e.flatten(0, -1));
            let low_rank = LoraLayer::new(found.a, found.b, gate, scale).to_lora();
            let delta = low_rank.adapter().delta();
            if !is_finite(&delta) {
                return Err(self.damaged(format!("not finite: the product of the factors of {}", module.path)));
            }
            match module.place {
                Place::TargetModule if low_rank.rank() > 0 => drop(factors.insert(module.path, low_rank)),
                Place::TargetModule => {}
                Place::Pooler => folded.push((format!("{}.weight", module.path), delta)),
                Place::Embedding => folded.push((format!("{}.weight", module.path), delta.transpose(0, 1))),
            }
        }
        self.report(&targets, &missing)?;
        let mut tensors = self.others(&targets)?;
        self.check_saved(&tensors)?;
        self.fold(&mut tensors, folded)?;
        Ok(Exported { factors, tensors, kind: "LORA".into(), notes: self.notes })
    }

    /// A module's name in the model that the adapter was trained on.
    fn peft_name<'b>(&self, path: &'b str) -> &'b str {
        if self.is_bare { path.strip_prefix(self.encoder.info().prefix).unwrap_or(path) } else { path }
    }

    fn damaged(&self, detail: String) -> Error {
        damaged(self.path, detail)
    }

    fn in_config<T>(&self, found: std::result::Result<T, String>) -> Result<T> {
        found.map_err(|e| damaged(&self.config, e))
    }

    /// Modules, pooler and embeddings, as the model has them.
    fn modules(&self) -> Vec<Module> {
        let of_site = |module: &TargetModule| Module {
            path: module.path.clone(),
            d_in: module.d_in,
            d_out: module.d_out,
            place: Place::TargetModule,
        };
        let two = |name: &str, weight: &Tensor, place: Place| {
            let path = name.strip_suffix(".weight").filter(|_| weight.dim() == 2)?.to_string();
            let (first, second) = (weight.size()[0], weight.size()[1]);
            Some(match place {
                Place::Embedding => Module { path, d_in: first, d_out: second, place },
                _ => Module { path, d_in: second, d_out: first, place },
            })
        };
        let head = self.encoder.new_head(1, 0).params;
        let poolers = head.iter().filter(|param| param.name.ends_with("pooler.dense.weight"));
        let poolers = poolers.filter_map(|param| two(&param.name, &param.init, Place::Pooler));
        let is_table = |name: &str| name.ends_with("_embeddings.weight") && name.contains(".embeddings.");
        let tables = self.encoder.info().weights.iter().filter(|(name, _)| is_table(name) && !self.settings.is_adalora);
        let tables = tables.filter_map(|(name, weight)| two(name, weight, Place::Embedding));
        self.encoder.info().target_modules.iter().map(of_site).chain(poolers).chain(tables).collect()
    }

    /// The factors of a module, held against the configuration; `None` where the file has none of them.
    fn take(&mut self, module: &Module, name: &str) -> Result<Option<Factors>> {
        let Module { path, d_in, d_out, place } = module;
        let mut take = |part: Part| self.stored.remove(&(path.clone(), part));
        let (a, b) = match place {
            Place::Embedding => (take(Part::EmbeddingA), take(Part::EmbeddingB)),
            _ => (take(Part::A), take(Part::B)),
        };
        let (e, bias) = (take(Part::E), take(Part::Bias));
        if [&a, &b, &e, &bias].iter().all(|part| part.is_none()) {
            return Ok(None);
        }
        let (is_adalora, has_bias) = (self.settings.is_adalora, self.settings.lora_bias);
        let (Some(a), Some(b)) = (a, b) else {
            return Err(self.damaged(format!("missing: {path}: lora_A and lora_B must both be there")));
        };
        if e.is_some() != is_adalora {
            let word = if is_adalora { "missing" } else { "surplus" };
            return Err(self.damaged(format!("{word}: {path}.lora_E, which ADALORA has and LORA has not")));
        }
        if bias.is_some() != (has_bias && *place != Place::Embedding) {
            let word = if has_bias { "missing" } else { "surplus" };
            return Err(self.damaged(format!("{word}: {path}.lora_B.bias, with lora_bias {has_bias}")));
        }
        let rank = self.in_config(self.settings.rank(name))?;
        let mut expected = vec![("lora_A", &a, vec![rank, *d_in]), ("lora_B", &b, vec![*d_out, rank])];
        expected.extend(e.as_ref().map(|e| ("lora_E", e, vec![rank, 1])));
        expected.extend(bias.as_ref().map(|bias| ("lora_B.bias", bias, vec![*d_out])));
        if let Some((part, found, expected)) = expected.iter().find(|(_, found, expected)| found.size() != *expected) {
            let found = found.size();
            let other = if a.size().get(1) != Some(d_in) || b.size().first() != Some(d_out) {
                format!("; the backbone's module maps {d_in} to {d_out} values: give the one it was trained on")
            } else {
                format!("; the configuration gives it rank {rank}")
            };
            return Err(self.damaged(format!("{path}.{part} is {found:?}, expected {expected:?}{other}")));
        }
        Ok(Some(Factors { a, b, e, bias }))
    }

    /// Says which target modules have no tensors, as PEFT warns of missing keys, and refuses an adapter that has none at all.
    fn report(&mut self, targets: &[String], missing: &[String]) -> Result<()> {
        if let Some(module) =
            self.settings.masked().find(|module| !targets.iter().any(|path| self.peft_name(path) == *module))
        {
            let detail = format!("rank_pattern names {module}, which is none of the adapted modules");
            return Err(damaged(&self.config, detail));
        }
        self.leave_out()?;
        let Some(first) = targets.first() else {
            let detail = "target_modules names no module of this backbone that can be adapted; give the backbone it was trained on";
            return Err(damaged(&self.config, detail));
        };
        if missing.len() == targets.len() {
            return Err(self.damaged(format!(
                "it has no LoRA tensor for any of the {} modules that target_modules names (the first: {first}); save the adapter again \
                 after training",
                targets.len()
            )));
        }
        if let Some(first) = missing.first() {
            let found = targets.len() - missing.len();
            let line = format!("{found} of the {} modules that target_modules names have LoRA tensors", targets.len());
            if !self.settings.starts_at_zero {
                let detail = format!("missing: {line}; {first} has none, and init_lora_weights gives it random values");
                return Err(self.damaged(detail));
            }
            self.notes.push(format!("{}: {line}; the others add nothing (the first: {first})", self.path.display()));
        }
        Ok(())
    }

    /// Leaves out, as PEFT does, factors of modules that the configuration does not adapt, and says so.
    fn leave_out(&mut self) -> Result<()> {
        let is_factor = |(_, part): &&(String, Part)| !matches!(part, Part::Base(_) | Part::Plain);
        let surplus: Vec<(String, Part)> = self.stored.keys().filter(is_factor).cloned().collect();
        let head = self.encoder.new_head(1, 0).params.into_iter().map(|param| param.name);
        let known: Vec<String> = self.encoder.info().weights.iter().map(|(name, _)| name.clone()).chain(head).collect();
        for key in &surplus {
            let module = &key.0;
            if !known.iter().any(|name| name.strip_suffix(".weight") == Some(module)) {
                return Err(Error::OtherBackbone { name: module.clone() });
            }
            if self.in_config(self.settings.is_target(self.peft_name(module), true))? {
                return Err(
                    self.damaged(format!("{module} has the tensor {:?} of LoRA, which is not supported there", key.1))
                );
            }
            self.stored.remove(key);
        }
        if let Some((module, _)) = surplus.first() {
            let count = surplus.len();
            let line = format!(
                "surplus: {count} tensors of LoRA at modules that the configuration does not adapt (the first: {module})"
            );
            self.notes.push(format!("{}: {line}; they are left out, as PEFT leaves them out", self.path.display()));
        }
        Ok(())
    }

    /// The tensors that are no factors, by their name in the model.
    fn others(&mut self, targets: &[String]) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for ((name, part), tensor) in std::mem::take(&mut self.stored) {
            let Part::Base(end) = part else {
                let module = name.rsplit_once('.').map_or(name.as_str(), |(module, _)| module);
                if targets.iter().any(|target| target == module) {
                    return Err(
                        self.damaged(format!("surplus: {name}, expected {module}.base_layer of an adapted module"))
                    );
                }
                // Of bias "all"; the module's own copy stands beside it.
                if !name.contains(".modules_to_save.") {
                    tensors.insert(name, tensor);
                }
                continue;
            };
            if !targets.contains(&name) {
                return Err(self.damaged(format!("surplus: {name}.base_layer.{end}, but {name} is not adapted")));
            }
            tensors.insert(format!("{name}.{end}"), tensor);
        }
        Ok(tensors)
    }

    /// Every parameter below a module of `modules_to_save` must be in the file.
    fn check_saved(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let own = self.encoder.info().weights.iter().map(|(name, _)| name.clone());
        let head = self.encoder.new_head(1, 0).params.into_iter().map(|param| param.name);
        let is_saved = |name: &str| {
            let name = self.peft_name(name);
            let ends = name.match_indices('.').map(|(at, _)| &name[..at]);
            let saved = &self.settings.modules_to_save;
            ends.into_iter().any(|module| saved.iter().any(|end| module.ends_with(end.as_str())))
        };
        // A model without a head has no classifier.
        let is_there = |name: &str| !self.is_bare || name.starts_with(self.encoder.info().prefix);
        match own.chain(head).find(|name| is_there(name) && is_saved(name) && !tensors.contains_key(name)) {
            Some(name) => Err(self.damaged(format!(
                "missing: {name}, which modules_to_save names ({}); save the adapter again with its modules",
                self.settings.modules_to_save.join(", ")
            ))),
            None => Ok(()),
        }
    }

    /// Adds what is folded to a tensor of the file, or else of the backbone.
    fn fold(&self, tensors: &mut BTreeMap<String, Tensor>, folded: Vec<(String, Tensor)>) -> Result<()> {
        for (name, delta) in folded {
            let own = tensors.get(&name).map(Tensor::shallow_clone).or_else(|| self.own(&name)).ok_or_else(|| {
                self.damaged(format!(
                    "it changes {name}, which the backbone does not have; give one whose pooler was saved"
                ))
            })?;
            if own.size() != delta.size() {
                return Err(self.damaged(format!("{name} is {:?}, expected {:?}", own.size(), delta.size())));
            }
            tensors.insert(name, own.detach().to_device(Device::Cpu).to_kind(tch::Kind::Float) + delta);
        }
        Ok(())
    }

    fn own(&self, name: &str) -> Option<Tensor> {
        let weights = self.encoder.info().weights.iter().find(|(own, _)| own == name);
        let head =
            || self.encoder.new_head(1, 0).params.into_iter().find(|param| param.name == name && param.is_pretrained);
        weights.map(|(_, tensor)| tensor.shallow_clone()).or_else(|| Some(head()?.init))
    }
}

/// Low-rank branches, and tensors of the backbone that were saved beside them.
struct Both {
    adapters: LoraLayers,
    replaced: ReplacedWeights,
}

impl Attach for Both {
    fn low_rank(&self, module: &TargetModule) -> Option<encoders::LowRank<'_>> {
        self.adapters.low_rank(module)
    }

    fn weight(&self, index: usize) -> Option<&Tensor> {
        self.replaced.weight(index)
    }
}

impl Exported {
    /// What is attached to `encoder` when this adapter is loaded, on the encoder's device.
    ///
    /// # Errors
    /// A factor or tensor that the encoder and its head do not have: the adapter is of another backbone.
    pub fn attach(&self, encoder: &dyn Encoder) -> Result<Box<dyn Attach>> {
        self.check_fits(encoder)?;
        let device = encoder.info().weights.first().map_or(Device::Cpu, |(_, weight)| weight.device());
        let here = self.to_device(device);
        let has_weights = encoder.info().weights.iter().any(|(name, _)| here.tensors.contains_key(name));
        Ok(match here.kind.as_str() {
            "BOTTLENECK" => Box::new(Bottlenecks::read(&encoder.info().target_modules, &here.tensors)),
            "FULL" | "BITFIT" => Box::new(ReplacedWeights::read(&encoder.info().weights, &here.tensors)),
            _ if has_weights => Box::new(Both {
                adapters: here.adapters(&encoder.info().target_modules),
                replaced: ReplacedWeights::read(&encoder.info().weights, &here.tensors),
            }),
            _ => Box::new(here.adapters(&encoder.info().target_modules)),
        })
    }

    fn to_device(&self, device: Device) -> Self {
        let moved = |LoraWeights { a, b, scale }: &LoraWeights| LoraWeights {
            a: a.to_device(device),
            b: b.to_device(device),
            scale: *scale,
        };
        Exported {
            factors: self.factors.iter().map(|(path, factors)| (path.clone(), moved(factors))).collect(),
            tensors: self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_device(device))).collect(),
            kind: self.kind.clone(),
            notes: Vec::new(),
        }
    }

    /// Everything in this adapter must have its place in the encoder: what has none would be left out in silence.
    ///
    /// # Errors
    /// The first factor or tensor that has none, or another shape.
    pub(crate) fn check_fits(&self, encoder: &dyn Encoder) -> Result<()> {
        let modules = &encoder.info().target_modules;
        let fits = |path: &str, factors: &LoraWeights| {
            let widths = (factors.a.size()[1], factors.b.size()[0]);
            modules.iter().any(|module| module.path == path && (module.d_in, module.d_out) == widths)
        };
        if let Some((path, _)) = self.factors.iter().find(|(path, factors)| !fits(path, factors)) {
            return Err(Error::OtherBackbone { name: path.clone() });
        }
        let head: Vec<String> = encoder.new_head(1, 0).params.into_iter().map(|param| param.name).collect();
        let is_own = |name: &str, tensor: &Tensor| match self.kind.as_str() {
            "BOTTLENECK" => modules.iter().any(|module| Bottlenecks::has_part(module, name)),
            _ => encoder.info().weights.iter().any(|(own, weight)| own == name && weight.size() == tensor.size()),
        };
        match self.tensors.iter().find(|(name, tensor)| !head.contains(name) && !is_own(name, tensor)) {
            Some((name, _)) => Err(Error::OtherBackbone { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// An adapter of our own kinds must have everything that its kind trains.
    fn check_whole(&self, encoder: &dyn Encoder) -> std::result::Result<(), String> {
        let is_trained: fn(&str) -> bool = match self.kind.as_str() {
            "BOTTLENECK" => return Bottlenecks::check_whole(&encoder.info().target_modules, &self.tensors),
            "FULL" => |_| true,
            "BITFIT" => |name| name.ends_with(".bias"),
            _ => return Ok(()),
        };
        let mut trained = encoder.info().weights.iter().filter(|(name, _)| is_trained(name));
        match trained.find(|(name, _)| !self.tensors.contains_key(name)) {
            Some((name, _)) => Err(format!("missing: {name}, which {} trains; save the adapter again", self.kind)),
            None => Ok(()),
        }
    }
}
