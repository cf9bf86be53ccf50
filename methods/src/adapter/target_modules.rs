//! The linears that get a branch, chosen by name.

use std::collections::{BTreeSet, HashSet};

use encoders::TargetModule;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result, nearest};

/// PEFT's word for every linear.
const ALL_LINEAR: &str = "all-linear";

/// Linears that get a branch, as PEFT's `target_modules` names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TargetModules {
    /// Every linear that the encoder publishes.
    #[default]
    AllLinear,
    /// Those with one of these names: the path, or its end after a dot (PEFT's rule); or the kind, which is the same in
    /// every architecture. Never empty.
    Named(BTreeSet<String>),
}

impl TargetModules {
    /// The chosen ones among an encoder's modules, in their order.
    ///
    /// # Errors
    /// A name that no module has, with the names there are.
    pub(crate) fn select(&self, method: &'static str, modules: &[TargetModule]) -> Result<Vec<TargetModule>> {
        let TargetModules::Named(names) = self else { return Ok(modules.to_vec()) };
        if let Some(unknown) = names.iter().find(|name| !modules.iter().any(|module| is_named(module, name))) {
            let known = known_names(modules);
            let meant = nearest(known.iter().copied(), unknown);
            let meant = meant.map_or(String::new(), |known| format!("did you mean '{known}'? "));
            return Err(Error::DoesNotFit {
                method,
                what: "target_modules",
                expected: format!("names among {}", known.join(", ")),
                got: format!("'{unknown}'"),
                help: format!("{meant}A longer end of a path chooses fewer, e.g. '{}'", example(modules)),
            });
        }
        let is_chosen = |module: &&TargetModule| names.iter().any(|name| is_named(module, name));
        Ok(modules.iter().filter(is_chosen).cloned().collect())
    }
}

/// PEFT's `path == name or path.endswith("." + name)`, or the kind.
fn is_named(module: &TargetModule, name: &str) -> bool {
    let is_end = module.path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    is_end || module.kind.name() == name
}

/// Last parts of the paths, then kinds, each once and in module order.
fn known_names(modules: &[TargetModule]) -> Vec<&str> {
    let ends = modules.iter().map(|module| module.path.rsplit('.').next().unwrap_or(&module.path));
    let kinds = modules.iter().map(|module| module.kind.name());
    let mut seen = HashSet::new();
    ends.chain(kinds).filter(|name| seen.insert(*name)).collect()
}

/// A path's end with its layer.
fn example(modules: &[TargetModule]) -> String {
    let parts: Vec<&str> = modules.first().map_or(Vec::new(), |module| module.path.split('.').collect());
    let layer = parts.iter().position(|part| part.parse::<usize>().is_ok()).unwrap_or(0);
    parts[layer..].join(".")
}

impl Serialize for TargetModules {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            TargetModules::AllLinear => ALL_LINEAR.serialize(serializer),
            TargetModules::Named(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for TargetModules {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let wrong = |got: String| {
            let expected = format!("\"{ALL_LINEAR}\" or a list of names such as [\"query\", \"value\"]");
            D::Error::custom(format!("`target_modules` is {got}, expected {expected}"))
        };
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) if text == ALL_LINEAR => Ok(TargetModules::AllLinear),
            toml::Value::Array(list) if !list.is_empty() => {
                let name = |item: &toml::Value| item.as_str().filter(|name| !name.is_empty()).map(str::to_string);
                let names: Option<BTreeSet<String>> = list.iter().map(name).collect();
                names.map(TargetModules::Named).ok_or_else(|| wrong(toml::Value::Array(list).to_string()))
            }
            other => Err(wrong(other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use encoders::ENCODERS;
    use tch::{Device, Kind};

    use super::*;

    fn modules(model_type: &str) -> Vec<TargetModule> {
        let entry = ENCODERS.iter().find(|entry| entry.model_type == model_type).unwrap();
        let config = encoders::Config::parse(entry.tiny, Path::new("tiny")).unwrap();
        encoders::random(&config, 1, Device::Cpu, Kind::Float).unwrap().info().target_modules.clone()
    }

    fn selected(model_type: &str, names: &[&str]) -> Result<Vec<String>> {
        let names = TargetModules::Named(names.iter().map(|name| name.to_string()).collect());
        let chosen = names.select("lora", &modules(model_type))?;
        Ok(chosen.into_iter().map(|module| module.path).collect())
    }

    #[test]
    fn a_name_is_a_path_or_its_end_after_a_dot() {
        let path = "bert.encoder.layer.1.attention.self.query";
        assert_eq!(selected("bert", &[path]).unwrap(), [path]);
        assert_eq!(selected("bert", &["1.attention.self.query"]).unwrap(), [path]);
        assert_eq!(selected("bert", &["query"]).unwrap().len(), 2);
        // As in PEFT, `dense` is three of a layer's linears, and `output.dense` two.
        assert_eq!(selected("bert", &["dense"]).unwrap().len(), 6);
        assert_eq!(selected("bert", &["output.dense"]).unwrap().len(), 4);
        assert_eq!(selected("bert", &["query", "key", "value", "dense"]).unwrap().len(), 12);
        assert!(selected("bert", &["uery"]).is_err());
    }

    #[test]
    fn a_kind_is_a_name_in_every_architecture() {
        let by_end = selected("deberta-v2", &["query_proj", "value_proj"]).unwrap();
        assert_eq!(selected("deberta-v2", &["query", "value"]).unwrap(), by_end);
        assert_eq!(by_end.len(), 4);
        assert_eq!(selected("modernbert", &["qkv"]).unwrap(), selected("modernbert", &["Wqkv"]).unwrap());
        assert_eq!(selected("bert", &["intermediate"]).unwrap().len(), 2);
    }

    #[test]
    fn the_order_is_that_of_the_encoder() {
        let chosen = selected("bert", &["value", "query"]).unwrap();
        let ends: Vec<&str> = chosen.iter().map(|path| path.rsplit('.').next().unwrap()).collect();
        assert_eq!(ends, ["query", "value", "query", "value"]);
    }

    #[test]
    fn a_name_of_nothing_is_refused_with_the_names_there_are() {
        let said = selected("bert", &["query", "vlaue"]).unwrap_err().to_string();
        for part in [
            "'vlaue'",
            "did you mean 'value'?",
            "query, key, value, dense",
            "attention_output",
            "e.g. '0.attention.self.query'",
        ] {
            assert!(said.contains(part), "'{part}' is not in: {said}");
        }
        let said = selected("modernbert", &["query"]).unwrap_err().to_string();
        assert!(said.contains("Wqkv") && said.contains("e.g. '0.attn.Wqkv'"), "{said}");
    }

    #[test]
    fn other_forms_are_refused_and_the_default_is_left_out() {
        let lora = crate::registry::find("lora").unwrap();
        let options = |text: &str| lora.options(&text.parse().unwrap());
        let given = options("target_modules = ['value', 'query', 'value']").unwrap();
        assert_eq!(given["target_modules"].to_string(), r#"["query", "value"]"#, "sorted, each once");
        assert!(!options("target_modules = 'all-linear'").unwrap().contains_key("target_modules"));
        for wrong in ["'query'", "'.*query'", "[]", "['']", "[1]", "3", "{}"] {
            let said = options(&format!("target_modules = {wrong}")).unwrap_err().to_string();
            assert!(said.contains("`target_modules` is") && said.contains("all-linear"), "{wrong}: {said}");
        }
    }
}
