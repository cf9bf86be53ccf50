//! Every method, one line each. Options arrive as a TOML table; each method knows its own keys and its own files.

use std::path::Path;

use encoders::Encoder;

use crate::error::{Error, Result, damaged, nearest};
use crate::method::MethodEntry;
use crate::peft::files::AdapterDir;
use crate::peft::format::TrainedAdapter;
use crate::tuners::adalora;
use crate::tuners::bitfit;
use crate::tuners::bottleneck;
use crate::tuners::dora;
use crate::tuners::dylora;
use crate::tuners::full;
use crate::tuners::lora;
use crate::tuners::sora;

/// The registered methods, in the order of the tables.
pub static METHODS: &[&MethodEntry] = &[
    &full::ENTRY, //
    &bottleneck::ENTRY,
    &bitfit::ENTRY,
    &lora::ENTRY,
    &adalora::ENTRY,
    &sora::ENTRY,
    &dora::ENTRY,
    &dylora::ENTRY,
];

/// Finds a method by name.
///
/// # Errors
/// Names the nearest known method.
pub fn find(name: &str) -> Result<&'static MethodEntry> {
    METHODS.iter().copied().find(|entry| entry.name == name).ok_or_else(|| {
        let nearest = nearest(METHODS.iter().map(|entry| entry.name), name).map(str::to_string);
        let known = METHODS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
        Error::UnknownMethod { name: name.to_string(), nearest, known }
    })
}

/// Reads the adapter in `dir` by the format of one of the methods.
///
/// # Errors
/// A `peft_type` that no method has; those of [`crate::peft::format::AdapterFormat::read`].
pub fn read_adapter(dir: &Path, encoder: &dyn Encoder) -> Result<Box<dyn TrainedAdapter>> {
    let files = AdapterDir::open(dir, encoder)?;
    if let Some(method) = METHODS.iter().find(|method| method.format.accepts(&files.config)) {
        return method.format.read(&files);
    }
    let mut known: Vec<&str> = Vec::new();
    for peft_type in METHODS.iter().flat_map(|method| method.format.peft_types()) {
        if !known.contains(peft_type) {
            known.push(peft_type);
        }
    }
    let detail = format!("peft_type is {}, expected one of {}", files.config.peft_type_text(), known.join(", "));
    Err(damaged(&files.config_path(), detail))
}
