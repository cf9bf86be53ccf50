//! The rest of a LORA or ADALORA file: modules without factors, factors without a module, and tensors that are no factors.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result, damaged};
use crate::peft::low_rank::read::{Fold, Reader};
use crate::peft::names::Part;

impl Reader<'_> {
    /// Notes which target modules have no tensors, as PEFT warns of missing keys, and refuses an adapter that has none at all.
    pub fn report(&mut self, targets: &[String], missing: &[String]) -> Result<()> {
        if let Some(module) =
            self.settings.masked().find(|module| !targets.iter().any(|path| self.peft_name(path) == *module))
        {
            let detail = format!("rank_pattern names {module}, which is none of the adapted modules");
            return Err(damaged(&self.config, detail));
        }
        self.leave_out()?;
        let Some(first) = targets.first() else {
            let detail = "target_modules names no module of this backbone that can be adapted; give the backbone it was trained on";
            return Err(damaged(&self.config, detail));
        };
        if missing.len() == targets.len() {
            return Err(self.damaged(format!(
                "it has no LoRA tensor for any of the {} modules that target_modules names (the first: {first}); save the adapter again \
                 after training",
                targets.len()
            )));
        }
        if let Some(first) = missing.first() {
            let found = targets.len() - missing.len();
            let line = format!("{found} of the {} modules that target_modules names have LoRA tensors", targets.len());
            if !self.settings.starts_at_zero {
                let detail = format!("missing: {line}; {first} has none, and init_lora_weights gives it random values");
                return Err(self.damaged(detail));
            }
            self.notes.push(format!("{}: {line}; the others add nothing (the first: {first})", self.path.display()));
        }
        Ok(())
    }

    /// Leaves out, as PEFT does, factors of modules that the configuration does not adapt, and says so.
    fn leave_out(&mut self) -> Result<()> {
        let is_factor = |(_, part): &&(String, Part)| !matches!(part, Part::Base(_) | Part::Plain);
        let surplus: Vec<(String, Part)> = self.stored.keys().filter(is_factor).cloned().collect();
        let head = self.encoder.new_head(1, 0).params.into_iter().map(|param| param.name);
        let known: Vec<String> = self.encoder.info().weights.iter().map(|(name, _)| name.clone()).chain(head).collect();
        for key in &surplus {
            let module = &key.0;
            if !known.iter().any(|name| name.strip_suffix(".weight") == Some(module)) {
                return Err(Error::OtherBackbone { name: module.clone() });
            }
            if self.in_config(self.settings.is_target(self.peft_name(module), true))? {
                return Err(
                    self.damaged(format!("{module} has the tensor {:?} of LoRA, which is not supported there", key.1))
                );
            }
            self.stored.remove(key);
        }
        if let Some((module, _)) = surplus.first() {
            let count = surplus.len();
            let line = format!(
                "surplus: {count} tensors of LoRA at modules that the configuration does not adapt (the first: {module})"
            );
            self.notes.push(format!("{}: {line}; they are left out, as PEFT leaves them out", self.path.display()));
        }
        Ok(())
    }

    /// The tensors that are no factors, by their name in the model.
    pub fn others(&mut self, targets: &[String]) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for ((name, part), tensor) in std::mem::take(&mut self.stored) {
            let Part::Base(end) = part else {
                let module = name.rsplit_once('.').map_or(name.as_str(), |(module, _)| module);
                if targets.iter().any(|target| target == module) {
                    return Err(
                        self.damaged(format!("surplus: {name}, expected {module}.base_layer of an adapted module"))
                    );
                }
                // Of bias "all"; the module's own copy stands beside it.
                if !name.contains(".modules_to_save.") {
                    tensors.insert(name, tensor);
                }
                continue;
            };
            if !targets.contains(&name) {
                return Err(self.damaged(format!("surplus: {name}.base_layer.{end}, but {name} is not adapted")));
            }
            tensors.insert(format!("{name}.{end}"), tensor);
        }
        Ok(tensors)
    }

    /// Every parameter below a module of `modules_to_save` must be in the file.
    pub fn check_saved(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let own = self.encoder.info().weights.iter().map(|(name, _)| name.clone());
        let head = self.encoder.new_head(1, 0).params.into_iter().map(|param| param.name);
        let is_saved = |name: &str| {
            let name = self.peft_name(name);
            let ends = name.match_indices('.').map(|(at, _)| &name[..at]);
            let saved = &self.settings.modules_to_save;
            ends.into_iter().any(|module| saved.iter().any(|end| module.ends_with(end.as_str())))
        };
        // A model without a head has no classifier.
        let is_there = |name: &str| !self.is_bare || name.starts_with(self.encoder.info().prefix);
        match own.chain(head).find(|name| is_there(name) && is_saved(name) && !tensors.contains_key(name)) {
            Some(name) => Err(self.damaged(format!(
                "missing: {name}, which modules_to_save names ({}); save the adapter again with its modules",
                self.settings.modules_to_save.join(", ")
            ))),
            None => Ok(()),
        }
    }

    /// Adds what is folded to a tensor of the file, or else of the backbone.
    pub fn fold(&self, tensors: &mut BTreeMap<String, Tensor>, folded: Vec<Fold>) -> Result<()> {
        for Fold { name, size, apply } in folded {
            let own = tensors.get(&name).map(Tensor::shallow_clone).or_else(|| self.own(&name)).ok_or_else(|| {
                self.damaged(format!(
                    "it changes {name}, which the backbone does not have; give one whose pooler was saved"
                ))
            })?;
            if own.size() != size {
                return Err(self.damaged(format!("{name} is {:?}, expected {size:?}", own.size())));
            }
            tensors.insert(name, apply(&own.detach().to_device(Device::Cpu).to_kind(Kind::Float)));
        }
        Ok(())
    }

    fn own(&self, name: &str) -> Option<Tensor> {
        let weights = self.encoder.info().weights.iter().find(|(own, _)| own == name);
        let head =
            || self.encoder.new_head(1, 0).params.into_iter().find(|param| param.name == name && param.is_pretrained);
        weights.map(|(_, tensor)| tensor.shallow_clone()).or_else(|| Some(head()?.init))
    }
}
