//! Pinned revisions and sums, from `hub.toml` beside this crate's sources.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Result};

const PINS: &str = include_str!("../../hub.toml");

/// Pins of one repository.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Commit.
    pub revision: String,
    /// sha256 by file name, in hexadecimal.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pins {
    model: BTreeMap<String, Pin>,
    dataset: BTreeMap<String, Pin>,
}

/// Pins of a model repository; `main` and no sums where it has none.
pub fn model(id: &str) -> Result<Pin> {
    Ok(pin(read()?.model, id))
}

/// The same of a dataset.
pub fn dataset(id: &str) -> Result<Pin> {
    Ok(pin(read()?.dataset, id))
}

fn pin(mut pins: BTreeMap<String, Pin>, id: &str) -> Pin {
    pins.remove(id).unwrap_or_else(|| Pin { revision: "main".into(), files: BTreeMap::new() })
}

fn read() -> Result<Pins> {
    toml::from_str(PINS).map_err(|e| Error::Corrupt {
        path: "datasets/hub.toml".into(),
        format: "the pins",
        detail: e.to_string(),
        help: "This build is broken: please report it".into(),
    })
}
