//! Every architecture, one line each.

use std::path::Path;

use tch::{Device, Kind};

use crate::checkpoint::reader::{Checkpoint, Reader};
use crate::config::Config;
use crate::encoder::{Encoder, EncoderEntry};
use crate::error::{Result, caught};
use crate::models::bert;
use crate::models::deberta_v3;
use crate::models::roberta;
use crate::nn::parts::OF_OTHERS;

/// The registered architectures.
pub static ENCODERS: &[&EncoderEntry] = &[&bert::ENTRY, &roberta::ENTRY, &deberta_v3::ENTRY];

/// Reads the checkpoint directory `dir` (Hugging Face layout: `config.json`, `model.safetensors` or
/// `pytorch_model.bin`, whole or in shards) onto `device`, its
/// weights as `kind`.
///
/// # Errors
/// A missing or damaged file, an architecture or option that is not supported, tensors that are not the architecture's.
pub fn load(dir: &Path, device: Device, kind: Kind) -> Result<Box<dyn Encoder>> {
    let config = Config::read(&dir.join("config.json"))?;
    let entry = entry(&config)?;
    let checkpoint = Checkpoint::open(dir)?;
    caught(config.path(), || {
        let reader = checkpoint.reader(entry.prefix, device, kind);
        let encoder = (entry.build)(&config, &reader)?;
        reader.finish(&[OF_OTHERS, entry.ignored].concat())?;
        Ok(encoder)
    })
}

/// An encoder with random weights, the same for the same seed: for tests and for timing where the real weights are not
/// at hand.
///
/// # Errors
/// An architecture or option that is not supported.
pub fn random(config: &Config, seed: i64, device: Device, kind: Kind) -> Result<Box<dyn Encoder>> {
    (entry(config)?.build)(config, &Reader::random(seed, device, kind))
}

fn entry(config: &Config) -> Result<&'static EncoderEntry> {
    let known: Vec<_> = ENCODERS.iter().map(|entry| (entry.model_type, entry.class)).collect();
    let model_type = config.model_type(&known)?;
    ENCODERS.iter().copied().find(|entry| entry.model_type == model_type).ok_or_else(|| {
        let known = ENCODERS.iter().map(|entry| entry.model_type).collect::<Vec<_>>().join(", ");
        config.wrong("model_type", format!("one of the architectures built here ({known})"), &model_type.into())
    })
}
