//! Every architecture, one line each.

use std::path::Path;

use tch::{Device, Kind};

use crate::checkpoint::reader::{Checkpoint, Reader};
use crate::config::Config;
use crate::encoder::{Encoder, EncoderEntry};
use crate::error::{Result, caught};
use crate::models::bert;
use crate::models::deberta_v3;
use crate::models::electra;
use crate::models::modernbert;
use crate::models::roberta;

/// The registered architectures.
pub static ENCODERS: &[&EncoderEntry] =
    &[&bert::ENTRY, &roberta::ENTRY, &deberta_v3::ENTRY, &electra::ENTRY, &modernbert::ENTRY];

/// Tensors of heads and buffers that a checkpoint may hold beside the encoder's, by the start of their name without
/// prefix.
const OF_OTHERS: &[&str] = &[
    "cls.",
    "classifier.",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "lm_head.",
    "lm_predictions.",
    "mask_predictions.",
    "predictions.",
    "qa_outputs.",
    "score.",
    "seq_relationship.",
];

/// Reads the checkpoint directory `dir` (Hugging Face layout: `config.json`, `model.safetensors` or
/// `pytorch_model.bin`, whole or in shards) onto `device`, its
/// weights as `kind`.
///
/// # Errors
/// A missing or damaged file, an architecture or option that is not supported, tensors that are not the architecture's.
pub fn load(dir: &Path, device: Device, kind: Kind) -> Result<Box<dyn Encoder>> {
    let config = Config::read(&dir.join("config.json"))?;
    let entry = find(&config)?;
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
    (find(config)?.build)(config, &Reader::random(seed, device, kind))
}

/// The architecture of a configuration.
///
/// # Errors
/// It names none, or one that is not registered.
pub fn find(config: &Config) -> Result<&'static EncoderEntry> {
    let known: Vec<_> = ENCODERS.iter().map(|entry| (entry.model_type, entry.class())).collect();
    let model_type = config.model_type(&known)?;
    ENCODERS.iter().copied().find(|entry| entry.model_type == model_type).ok_or_else(|| {
        let known = ENCODERS.iter().map(|entry| entry.model_type).collect::<Vec<_>>().join(", ");
        config.wrong("model_type", format!("one of the architectures built here ({known})"), &model_type.into())
    })
}
