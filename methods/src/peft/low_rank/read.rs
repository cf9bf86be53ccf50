//! Reads the factors of a LORA or ADALORA file, each held against the configuration and the backbone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use encoders::checkpoint::file::is_finite;
use encoders::{Encoder, TargetModule};
use tch::{Device, Tensor};

use crate::adapter::lora_layer::{LoraLayer, LoraWeights};
use crate::adapter::pissa::principal_components;
use crate::error::{Error, Result, damaged};
use crate::peft::files::{AdapterDir, Parts};
use crate::peft::low_rank::adapter::LowRankAdapter;
use crate::peft::names::Part;
use crate::peft::settings::Settings;

/// A file on its way to an adapter.
pub(crate) struct Reader<'a> {
    pub encoder: &'a dyn Encoder,
    pub settings: Settings,
    pub is_bare: bool,
    pub path: PathBuf,
    pub config: PathBuf,
    pub stored: Parts,
    pub notes: Vec<String>,
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
    /// With the index of its weight.
    TargetModule(usize),
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
    magnitude: Option<Tensor>,
}

/// A change that is folded into a tensor of the file or the backbone.
pub(crate) struct Fold {
    pub name: String,
    pub size: Vec<i64>,
    pub apply: Box<dyn Fn(&Tensor) -> Tensor>,
}

impl Fold {
    fn sum(name: String, delta: Tensor) -> Self {
        Fold { name, size: delta.size(), apply: Box::new(move |own| own + &delta) }
    }

    fn branch(name: String, low_rank: LoraWeights) -> Self {
        let size = vec![low_rank.b.size()[0], low_rank.a.size()[1]];
        Fold { name, size, apply: Box::new(move |own| low_rank.merged(own)) }
    }
}

impl<'a> Reader<'a> {
    /// The configuration first: what it names is not to be guessed from the tensors.
    pub fn new(files: &AdapterDir<'a>, is_adalora: bool) -> Result<Self> {
        let settings = files.settings(is_adalora)?;
        let stored = files.tensors()?;
        Ok(Reader {
            encoder: files.encoder,
            settings,
            is_bare: stored.is_bare,
            path: stored.path,
            config: files.config_path(),
            stored: stored.parts,
            notes: Vec::new(),
        })
    }

    pub fn read(mut self) -> Result<LowRankAdapter> {
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
                folded.push(Fold::sum(format!("{}.bias", module.path), bias * scale));
            }
            let found = if self.settings.is_pissa { self.without_start(&module, found, scale)? } else { found };
            let gate = found.e.map(|e| e.flatten(0, -1));
            let layer = LoraLayer { magnitude: found.magnitude, ..LoraLayer::new(found.a, found.b, gate, scale) };
            let low_rank = layer.to_lora();
            let delta = low_rank.adapter().delta();
            if !is_finite(&delta) {
                return Err(self.damaged(format!("not finite: the product of the factors of {}", module.path)));
            }
            match module.place {
                Place::TargetModule(_) if low_rank.rank() > 0 => drop(factors.insert(module.path, low_rank)),
                Place::TargetModule(_) => {}
                Place::Pooler => folded.push(Fold::branch(format!("{}.weight", module.path), low_rank)),
                Place::Embedding => {
                    folded.push(Fold::sum(format!("{}.weight", module.path), delta.transpose(0, 1)));
                }
            }
        }
        self.report(&targets, &missing)?;
        let mut tensors = self.others(&targets)?;
        self.check_saved(&tensors)?;
        self.fold(&mut tensors, folded)?;
        let Settings { lora_dropout, bias, .. } = self.settings;
        Ok(LowRankAdapter { factors, tensors, lora_dropout, bias, notes: self.notes })
    }

    /// PiSSA's factors as a branch beside the whole weight: `s (B A - B0 A0)`.
    fn without_start(&self, module: &Module, found: Factors, scale: f64) -> Result<Factors> {
        let Place::TargetModule(index) = module.place else {
            return Err(self.damaged(format!("{} is adapted with PiSSA, which is not supported there", module.path)));
        };
        let rank = found.a.size()[0];
        if scale <= 0.0 || rank > module.d_in.min(module.d_out) {
            let detail = format!("{} has no {rank} principal components at a scaling of {scale}", module.path);
            return Err(damaged(&self.config, detail));
        }
        let weight = self.encoder.info().weights[index].1.to_device(Device::Cpu);
        let [a, b] = principal_components(&weight, rank, scale);
        let (a, b) = (Tensor::cat(&[&found.a, &a], 0), Tensor::cat(&[&found.b, &b.neg()], 1));
        Ok(Factors { a, b, ..found })
    }

    /// A module's name in the model that the adapter was trained on.
    pub fn peft_name<'b>(&self, path: &'b str) -> &'b str {
        if self.is_bare { path.strip_prefix(self.encoder.info().prefix).unwrap_or(path) } else { path }
    }

    pub fn damaged(&self, detail: String) -> Error {
        damaged(&self.path, detail)
    }

    pub fn in_config<T>(&self, found: std::result::Result<T, String>) -> Result<T> {
        found.map_err(|e| damaged(&self.config, e))
    }

    /// Modules, pooler and embeddings, as the model has them.
    fn modules(&self) -> Vec<Module> {
        let of_site = |module: &TargetModule| Module {
            path: module.path.clone(),
            d_in: module.d_in,
            d_out: module.d_out,
            place: Place::TargetModule(module.weight),
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
        let (e, bias, magnitude) = (take(Part::E), take(Part::Bias), take(Part::Magnitude));
        if [&a, &b, &e, &bias, &magnitude].iter().all(|part| part.is_none()) {
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
        let use_dora = self.settings.use_dora;
        if use_dora && *place == Place::Embedding {
            return Err(self.damaged(format!("{path} is an embedding, at which use_dora is not supported")));
        }
        if magnitude.is_some() != use_dora {
            let word = if use_dora { "missing" } else { "surplus" };
            return Err(self.damaged(format!("{word}: {path}.lora_magnitude_vector, with use_dora {use_dora}")));
        }
        let rank = self.in_config(self.settings.rank(name))?;
        let mut expected = vec![("lora_A", &a, vec![rank, *d_in]), ("lora_B", &b, vec![*d_out, rank])];
        expected.extend(e.as_ref().map(|e| ("lora_E", e, vec![rank, 1])));
        expected.extend(bias.as_ref().map(|bias| ("lora_B.bias", bias, vec![*d_out])));
        expected.extend(magnitude.as_ref().map(|m| ("lora_magnitude_vector", m, vec![*d_out])));
        if let Some((part, found, expected)) = expected.iter().find(|(_, found, expected)| found.size() != *expected) {
            let found = found.size();
            let other = if a.size().get(1) != Some(d_in) || b.size().first() != Some(d_out) {
                format!("; the backbone's module maps {d_in} to {d_out} values: give the one it was trained on")
            } else {
                format!("; the configuration gives it rank {rank}")
            };
            return Err(self.damaged(format!("{path}.{part} is {found:?}, expected {expected:?}{other}")));
        }
        Ok(Some(Factors { a, b, e, bias, magnitude }))
    }
}
