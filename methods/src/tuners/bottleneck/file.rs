//! Bottlenecks in a file and at the modules.

use std::collections::BTreeMap;

use encoders::{Attach, Encoder, TargetModule};
use tch::{Device, Tensor};

use crate::error::{Error, Result, damaged};
use crate::peft::config;
use crate::peft::files::{AdapterDir, PeftFiles, PlainTensors};
use crate::peft::format::{AdapterFormat, TrainedAdapter, check_tensors};

/// `peft_type`, which PEFT does not know.
const TYPE: &str = "BOTTLENECK";

/// Files of bottleneck adapters.
pub struct BottleneckFormat;

/// The only one.
pub static FORMAT: BottleneckFormat = BottleneckFormat;

impl AdapterFormat for BottleneckFormat {
    fn peft_types(&self) -> &'static [&'static str] {
        &[TYPE]
    }

    fn read(&self, files: &AdapterDir) -> Result<Box<dyn TrainedAdapter>> {
        let PlainTensors { path, tensors } = files.plain_tensors()?;
        let adapter = BottleneckAdapter { tensors };
        adapter.check(files.encoder)?;
        let modules = &files.encoder.info().target_modules;
        Bottlenecks::check_whole(modules, &adapter.tensors).map_err(|e| damaged(&path, e))?;
        Ok(Box::new(adapter))
    }
}

/// Trained bottlenecks by name, and the head.
pub struct BottleneckAdapter {
    /// By name.
    pub tensors: BTreeMap<String, Tensor>,
}

impl TrainedAdapter for BottleneckAdapter {
    fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    fn write(&self, base_model: &str) -> Result<PeftFiles> {
        let config = config::written(TYPE, base_model, &BTreeMap::new(), &self.tensors);
        PeftFiles::new(config, self.tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())))
    }

    fn check(&self, encoder: &dyn Encoder) -> Result<()> {
        let modules = &encoder.info().target_modules;
        let is_part = |name: &str, _: &Tensor| modules.iter().any(|module| Bottlenecks::has_part(module, name));
        check_tensors(&self.tensors, encoder, is_part)
    }

    fn attachment(&self, encoder: &dyn Encoder, device: Device) -> Result<Box<dyn Attach>> {
        Ok(Box::new(Bottlenecks::read(&encoder.info().target_modules, &self.tensors, device)))
    }

    fn merge(&self, _model: &mut BTreeMap<String, Tensor>) -> Result<()> {
        Err(Error::Unmergeable("a bottleneck adapter is not linear, so no weight can hold it".into()))
    }
}

/// The adapters of one step, by module.
pub struct Bottlenecks(pub(crate) Vec<Option<[Tensor; 4]>>);

/// Names of a module's tensors in a file, after the module's path.
pub(crate) const PARTS: [&str; 4] =
    ["adapter_down.weight", "adapter_down.bias", "adapter_up.weight", "adapter_up.bias"];

impl Bottlenecks {
    /// Whether a tensor of a file is one of a module's.
    pub fn has_part(module: &TargetModule, name: &str) -> bool {
        name.strip_prefix(&module.path)
            .and_then(|rest| rest.strip_prefix('.'))
            .is_some_and(|part| PARTS.contains(&part))
    }

    /// Holds the tensors of a file against the modules: where a module has one part it has all four, of one width.
    ///
    /// # Errors
    /// The first part that is missing or of another shape; no part at all.
    pub fn check_whole(modules: &[TargetModule], stored: &BTreeMap<String, Tensor>) -> std::result::Result<(), String> {
        let mut found = false;
        for module in modules {
            let part = |part: &str| stored.get(&format!("{}.{part}", module.path)).map(Tensor::size);
            let parts = PARTS.map(part);
            if parts.iter().all(Option::is_none) {
                continue;
            }
            found = true;
            let width = parts[1].as_ref().and_then(|size| size.first().copied()).unwrap_or(0);
            let expected = [vec![width, module.d_out], vec![width], vec![module.d_out, width], vec![module.d_out]];
            for ((part, size), expected) in PARTS.iter().zip(parts).zip(expected) {
                if size.as_ref() != Some(&expected) {
                    let size = size.map_or("missing".into(), |size| format!("{size:?}"));
                    return Err(format!("{}.{part} is {size}, expected {expected:?}", module.path));
                }
            }
        }
        if found { Ok(()) } else { Err("it has no bottleneck of any module; save the adapter again".into()) }
    }

    /// From the tensors of a file, by name; a module without all four gets none.
    pub fn read(modules: &[TargetModule], stored: &BTreeMap<String, Tensor>, device: Device) -> Self {
        let at = |module: &TargetModule| {
            let part =
                |part: &str| stored.get(&format!("{}.{part}", module.path)).map(|tensor| tensor.to_device(device));
            let [down, down_bias, up, up_bias] = PARTS.map(part);
            Some([down?, down_bias?, up?, up_bias?])
        };
        Bottlenecks(modules.iter().map(at).collect())
    }
}

impl Attach for Bottlenecks {
    fn output(&self, module: &TargetModule, _x: &Tensor, y: Tensor) -> Tensor {
        let Some(Some([down, down_bias, up, up_bias])) = self.0.get(module.index) else { return y };
        let inner = y.linear(down, Some(down_bias)).gelu("tanh");
        y + inner.linear(up, Some(up_bias))
    }
}
