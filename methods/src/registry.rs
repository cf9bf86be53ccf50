//! Every method, one line each. Options arrive as a TOML table; each method knows its own keys.

use serde::de::DeserializeOwned;

use crate::bounds::{self, Options};
use crate::error::{Error, Result};
use crate::method::{Context, Method};
use crate::params::Builder;
use crate::{adalora, bitfit, bottleneck, full, lora, sora};

/// One method.
pub struct Entry {
    /// Name on the command line and in every file.
    pub name: &'static str,
    /// Name in tables.
    pub title: &'static str,
    /// Whether several runs can be trained side by side: it attaches nothing but low-rank branches.
    pub is_stackable: bool,
    /// Its options parser; see [`Entry::options`].
    pub(crate) resolve: fn(&'static str, &toml::Table) -> Result<toml::Table>,
    /// Builds the method and adds its parameters.
    pub build: fn(&toml::Table, &Context, &mut Builder) -> Result<Box<dyn Method>>,
}

impl Entry {
    /// The options with every default filled in.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong type or out of its bounds.
    pub fn options(&self, given: &toml::Table) -> Result<toml::Table> {
        (self.resolve)(self.name, given)
    }
}

/// The registered methods, in the order of the tables.
pub static METHODS: &[&Entry] =
    &[&full::ENTRY, &bottleneck::ENTRY, &bitfit::ENTRY, &lora::ENTRY, &adalora::ENTRY, &sora::ENTRY];

/// Finds a method by name.
///
/// # Errors
/// Names the nearest known method.
pub fn find(name: &str) -> Result<&'static Entry> {
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

/// Parses the options `O` of a method and writes every one of them out again.
pub(crate) fn resolve_with<O: Options>(method: &'static str, given: &toml::Table) -> Result<toml::Table> {
    let options: O = parse(method, given)?;
    bounds::check(method, &options)?;
    toml::Table::try_from(&options).map_err(|e| Error::Options { method, detail: e.to_string() })
}

/// Builds a method from its options, drawing its start values from the context's seed.
pub(crate) fn build_with<O: Options, M: Method + 'static>(
    method: &'static str,
    options: &toml::Table,
    context: &Context,
    params: &mut Builder,
    new: fn(O, &Context, &mut Builder) -> Result<M>,
) -> Result<Box<dyn Method>> {
    let options = parse(method, options)?;
    bounds::check(method, &options)?;
    tch::manual_seed(context.seed);
    Ok(Box::new(new(options, context, params)?))
}

fn parse<O: DeserializeOwned>(method: &'static str, given: &toml::Table) -> Result<O> {
    given.clone().try_into().map_err(|e: toml::de::Error| Error::Options { method, detail: with_nearest(e.message()) })
}

/// serde's message about an unknown field, with the nearest of the fields it lists.
pub fn with_nearest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let nearest = quoted.next().filter(|_| message.starts_with("unknown field")).and_then(|unknown| {
        let near = quoted.map(|known| (strsim::damerau_levenshtein(known, unknown), known));
        near.filter(|(distance, known)| *distance <= 1 + known.len() / 3).min()
    });
    match nearest {
        Some((_, known)) => format!("{message} (did you mean `{known}`?)"),
        None => message.to_string(),
    }
}
