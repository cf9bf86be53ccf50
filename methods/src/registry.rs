//! Every method, one line each. Options arrive as a TOML table; each method knows its own keys.

use crate::error::{Error, Result};
use crate::method::MethodEntry;
use crate::tuners::adalora;
use crate::tuners::bitfit;
use crate::tuners::bottleneck;
use crate::tuners::full;
use crate::tuners::lora;
use crate::tuners::sora;

/// The registered methods, in the order of the tables.
pub static METHODS: &[&MethodEntry] =
    &[&full::ENTRY, &bottleneck::ENTRY, &bitfit::ENTRY, &lora::ENTRY, &adalora::ENTRY, &sora::ENTRY];

/// Finds a method by name.
///
/// # Errors
/// Names the nearest known method.
pub fn find(name: &str) -> Result<&'static MethodEntry> {
    METHODS.iter().copied().find(|entry| entry.name == name).ok_or_else(|| {
        let nearest = METHODS
            .iter()
            .map(|entry| (strsim::damerau_levenshtein(entry.name, name), entry.name))
            .filter(|(distance, _)| *distance <= 2)
            .min()
            .map(|(_, name)| name.to_string());
        let known = METHODS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ");
        Error::UnknownMethod { name: name.to_string(), nearest, known }
    })
}
