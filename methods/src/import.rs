//! Reads adapters in PEFT's file layout: what [`crate::export`] writes, and what PEFT itself saved (LoRA and AdaLoRA).

use std::collections::BTreeMap;
use std::path::Path;

use encoders::{Attach, Encoder};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::adapter::{Adapter, LoraFactors};
use crate::bottleneck::Bottlenecks;
use crate::error::{Error, Result};
use crate::export::{Exported, PREFIX, damaged};
use crate::weights::Replaced;

/// PEFT's low-rank kinds, and ours of what PEFT does not know.
const KINDS: &[&str] = &["LORA", "ADALORA", "FULL", "BITFIT", "BOTTLENECK"];
/// Options of PEFT that change the map and are not supported: they must be absent, null, false or empty.
const UNSUPPORTED: &[&str] = &["use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "alora_invocation_tokens"];

impl Exported {
    /// Reads the adapter in `dir`.
    ///
    /// # Errors
    /// A missing or damaged file, a kind of adapter or an option that is not supported, a factor without its partner.
    pub fn read(dir: &Path) -> Result<Self> {
        let config_path = dir.join("adapter_config.json");
        let text = std::fs::read_to_string(&config_path).map_err(|e| damaged(&config_path, e))?;
        let config: Value = serde_json::from_str(&text).map_err(|e| damaged(&config_path, e))?;
        check(&config).map_err(|e| damaged(&config_path, e))?;
        let path = dir.join("adapter_model.safetensors");
        let mut tensors = read_tensors(&path)?;
        let mut factors = BTreeMap::new();
        for site in sites(&tensors) {
            let mut take = |part: &str| take(&mut tensors, &site, part);
            let (a, b, e) = (take("A"), take("B"), take("E"));
            let (Some(a), Some(b)) = (a, b) else {
                return Err(damaged(&path, format!("{site}: lora_A and lora_B must both be there")));
            };
            let ranks = [a.size().first().copied(), b.size().get(1).copied(), e.as_ref().map(|e| e.numel() as i64)];
            if (a.dim(), b.dim()) != (2, 2) || ranks.into_iter().flatten().any(|rank| rank != a.size()[0]) {
                let e = e.as_ref().map(Tensor::size);
                let sizes = format!("lora_A is {:?}, lora_B {:?}, lora_E {e:?}", a.size(), b.size());
                return Err(damaged(&path, format!("{site}: {sizes}: they are not of one rank")));
            }
            let scale = scale(&config, &site, a.size()[0]).map_err(|e| damaged(&config_path, e))?;
            let gate = e.map(|e| e.flatten(0, -1));
            let pruned = Adapter::new(a, b, gate, scale).to_lora();
            if pruned.rank() > 0 {
                factors.insert(site, pruned);
            }
        }
        let kind = config["peft_type"].as_str().filter(|kind| *kind != "ADALORA").unwrap_or("LORA").into();
        Ok(Exported { factors, tensors, kind })
    }
}

impl Exported {
    /// What is attached to `encoder` when this adapter is loaded, on the encoder's device.
    ///
    /// # Errors
    /// A factor or tensor that the encoder and its head do not have: the adapter is of another backbone.
    pub fn attach(&self, encoder: &dyn Encoder) -> Result<Box<dyn Attach>> {
        self.check_fits(encoder)?;
        let device = encoder.weights().first().map_or(Device::Cpu, |(_, weight)| weight.device());
        let here = self.to_device(device);
        Ok(match here.kind.as_str() {
            "BOTTLENECK" => Box::new(Bottlenecks::read(encoder.sites(), &here.tensors)),
            "FULL" | "BITFIT" => Box::new(Replaced::read(encoder.weights(), &here.tensors)),
            _ => Box::new(here.adapters(encoder.sites())),
        })
    }

    fn to_device(&self, device: Device) -> Self {
        let moved = |LoraFactors { a, b, scale }: &LoraFactors| LoraFactors {
            a: a.to_device(device),
            b: b.to_device(device),
            scale: *scale,
        };
        Exported {
            factors: self.factors.iter().map(|(path, factors)| (path.clone(), moved(factors))).collect(),
            tensors: self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_device(device))).collect(),
            kind: self.kind.clone(),
        }
    }

    /// Everything in this adapter must have its place in the encoder: what has none would be left out in silence.
    ///
    /// # Errors
    /// The first factor or tensor that has none, or another shape.
    pub(crate) fn check_fits(&self, encoder: &dyn Encoder) -> Result<()> {
        let sites = encoder.sites();
        let fits = |path: &str, factors: &LoraFactors| {
            let widths = (factors.a.size()[1], factors.b.size()[0]);
            sites.iter().any(|site| site.path == path && (site.d_in, site.d_out) == widths)
        };
        if let Some((path, _)) = self.factors.iter().find(|(path, factors)| !fits(path, factors)) {
            return Err(Error::OtherBackbone { name: path.clone() });
        }
        let head: Vec<String> = encoder.head(1, 0).params.into_iter().map(|param| param.name).collect();
        let is_own = |name: &str, tensor: &Tensor| match self.kind.as_str() {
            "BOTTLENECK" => sites.iter().any(|site| Bottlenecks::has_part(site, name)),
            "FULL" | "BITFIT" => {
                encoder.weights().iter().any(|(own, weight)| own == name && weight.size() == tensor.size())
            }
            _ => false,
        };
        match self.tensors.iter().find(|(name, tensor)| !head.contains(name) && !is_own(name, tensor)) {
            Some((name, _)) => Err(Error::OtherBackbone { name: name.clone() }),
            None => Ok(()),
        }
    }
}

fn check(config: &Value) -> std::result::Result<(), String> {
    let kind = config["peft_type"].as_str().unwrap_or("nothing");
    if !KINDS.contains(&kind) {
        return Err(format!("peft_type is {kind}, expected one of {}", KINDS.join(", ")));
    }
    let is_off = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    if !matches!(config["bias"].as_str(), None | Some("none")) {
        return Err(format!(
            "bias is {}, expected \"none\": trained biases of the backbone are not supported",
            config["bias"]
        ));
    }
    // These change the backbone's own weights, which the file does not hold.
    if let Some(init) = config["init_lora_weights"].as_str()
        && ["pissa", "olora", "corda", "loftq"].iter().any(|start| init.starts_with(start))
    {
        return Err(format!("init_lora_weights is {init}, which changes the backbone and is not supported"));
    }
    let patterns = config["alpha_pattern"].as_object().into_iter().flatten();
    if let Some((pattern, _)) = patterns.into_iter().find(|(key, _)| key.contains(|c| r"\*+?[]()|^${}".contains(c))) {
        return Err(format!("alpha_pattern has the regular expression {pattern:?}; only plain names are supported"));
    }
    match UNSUPPORTED.iter().find(|option| !is_off(&config[**option])) {
        Some(option) => Err(format!("{option} is {}, which is not supported", config[*option])),
        None => Ok(()),
    }
}

/// What the branch is scaled by: `α/r`, `α/sqrt(r)` with `use_rslora`, `α/(init_r + 1e-5)` for AdaLoRA, whose rank in the
/// file can be smaller (spec §2.1, §2.9).
fn scale(config: &Value, site: &str, rank: i64) -> std::result::Result<f64, String> {
    let default = config["lora_alpha"].as_f64().ok_or("there is no lora_alpha")?;
    let alpha = pattern(&config["alpha_pattern"], site).and_then(Value::as_f64).unwrap_or(default);
    if config["peft_type"] == "ADALORA" {
        let initial = config["init_r"].as_f64().ok_or("there is no init_r")?;
        return Ok(alpha / (initial + 1e-5));
    }
    let rank = rank.max(1) as f64;
    Ok(if config["use_rslora"] == true { alpha / rank.sqrt() } else { alpha / rank })
}

/// The first entry whose key is the site's path or ends it after a dot, as PEFT matches plain names.
fn pattern<'a>(patterns: &'a Value, site: &str) -> Option<&'a Value> {
    let matches = |key: &str| site == key || site.strip_suffix(key).is_some_and(|rest| rest.ends_with('.'));
    patterns.as_object()?.iter().find(|(key, _)| matches(key)).map(|(_, value)| value)
}

/// LoRA names its factors `<site>.lora_A.weight`, AdaLoRA `<site>.lora_A`.
fn sites(tensors: &BTreeMap<String, Tensor>) -> Vec<String> {
    let of = |name: &String| Some(name.split_once(".lora_")?.0.to_string());
    let mut sites: Vec<String> = tensors.keys().filter_map(of).collect();
    sites.dedup();
    sites
}

fn take(tensors: &mut BTreeMap<String, Tensor>, site: &str, part: &str) -> Option<Tensor> {
    let name = format!("{site}.lora_{part}");
    tensors.remove(&name).or_else(|| tensors.remove(&format!("{name}.weight")))
}

/// Every tensor by its name without PEFT's prefix.
fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let data = std::fs::read(path).map_err(|e| damaged(path, e))?;
    let file = SafeTensors::deserialize(&data).map_err(|e| damaged(path, e))?;
    let named = file.tensors().into_iter().map(|(name, view)| {
        let name = name.strip_prefix(PREFIX).unwrap_or(&name).to_string();
        Ok((name, tensor(&view, path)?))
    });
    named.collect()
}

fn tensor(view: &TensorView, path: &Path) -> Result<Tensor> {
    let kind = match view.dtype() {
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        other => return Err(damaged(path, format!("expected floating-point tensors, got {other:?}"))),
    };
    let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    Ok(Tensor::f_from_data_size(view.data(), &shape, kind)?.to_kind(Kind::Float))
}
