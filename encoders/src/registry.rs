//! Every architecture, one line each.

use std::path::Path;

use tch::{Device, Kind};

use crate::bert;
use crate::config::Config;
use crate::encoder::Encoder;
use crate::error::{Error, Result};

/// One architecture.
pub struct Entry {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// Reads a checkpoint directory.
    pub(crate) load: fn(&Path, Config, Device, Kind) -> Result<Box<dyn Encoder>>,
}

/// The registered architectures.
pub static ENCODERS: &[&Entry] = &[&bert::ENTRY];

/// Reads the checkpoint directory `dir` (Hugging Face layout: `config.json`, `model.safetensors`) onto `device`, its
/// weights as `kind`.
///
/// # Errors
/// A missing or damaged file, an architecture or option that is not supported, tensors that are not the architecture's.
pub fn load(dir: &Path, device: Device, kind: Kind) -> Result<Box<dyn Encoder>> {
    let config = Config::read(&dir.join("config.json"))?;
    let model_type = config.text("model_type")?;
    let Some(entry) = ENCODERS.iter().find(|entry| entry.model_type == model_type) else {
        let known = ENCODERS.iter().map(|entry| entry.model_type).collect::<Vec<_>>().join(", ");
        return Err(Error::Config {
            path: config.path().to_path_buf(),
            option: "model_type".into(),
            expected: format!("one of the architectures built here ({known})"),
            got: model_type,
        });
    };
    (entry.load)(dir, config, device, kind)
}
