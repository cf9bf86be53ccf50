//! A kind of adapter file, and a trained adapter that can be written to one or was read from one.

use std::collections::BTreeMap;

use encoders::checkpoint::file::is_finite;
use encoders::{Attach, Encoder};
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::peft::config::PeftConfig;
use crate::peft::files::{AdapterDir, PeftFiles};

/// A kind of adapter file. Every method has one; methods may share it.
pub trait AdapterFormat: Sync {
    /// Values of `peft_type` that it reads.
    fn peft_types(&self) -> &'static [&'static str];

    /// Whether it reads an adapter with this configuration.
    fn accepts(&self, config: &PeftConfig) -> bool {
        self.peft_types().contains(&config.peft_type())
    }

    /// Reads an adapter for the backbone it was trained on.
    ///
    /// # Errors
    /// A missing or damaged file, a field that is not supported; a tensor that is missing, surplus, doubled, of another shape,
    /// or not finite.
    fn read(&self, files: &AdapterDir) -> Result<Box<dyn TrainedAdapter>>;
}

/// Trained values of a method, and the head.
pub trait TrainedAdapter {
    /// Tensors that are no part of a branch by their Hugging Face name: the head, and tensors of the backbone.
    fn tensors(&self) -> &BTreeMap<String, Tensor>;

    /// Notes on an adapter that was read, a line each.
    fn notes(&self) -> &[String] {
        &[]
    }

    /// The adapter's files in PEFT's layout.
    ///
    /// # Errors
    /// A tensor that cannot be serialised.
    fn write(&self, base_model: &str) -> Result<PeftFiles>;

    /// Holds the adapter against an encoder and its head: a tensor without a place there would be left out in silence.
    ///
    /// # Errors
    /// The first tensor that has no place, or another shape: the adapter is of another backbone.
    fn check(&self, encoder: &dyn Encoder) -> Result<()>;

    /// Attachments to an encoder that [`TrainedAdapter::check`] passed, on its device.
    ///
    /// # Errors
    /// A failure on the device.
    fn attachment(&self, encoder: &dyn Encoder, device: Device) -> Result<Box<dyn Attach>>;

    /// Folds the branches into a model's tensors; those of [`TrainedAdapter::tensors`] are in their place already.
    ///
    /// # Errors
    /// An adapter that no weight can hold.
    fn merge(&self, model: &mut BTreeMap<String, Tensor>) -> Result<()>;
}

impl dyn TrainedAdapter + '_ {
    /// Attachments to `encoder`, on its device.
    ///
    /// # Errors
    /// As [`TrainedAdapter::check`].
    pub fn attach(&self, encoder: &dyn Encoder) -> Result<Box<dyn Attach>> {
        self.check(encoder)?;
        let device = encoder.info().weights.first().map_or(Device::Cpu, |(_, weight)| weight.device());
        self.attachment(encoder, device)
    }

    /// Every tensor of the merged model by its Hugging Face name, float32: the adapted weights, trained tensors of the
    /// backbone in place of its own, and the head.
    ///
    /// # Errors
    /// An adapter that no weight can hold; an adapter of another backbone; a value that is not finite.
    pub fn merged(&self, encoder: &dyn Encoder) -> Result<BTreeMap<String, Tensor>> {
        self.check(encoder)?;
        let copied = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.detach().to_kind(Kind::Float).copy());
        let mut model: BTreeMap<String, Tensor> = encoder.info().weights.iter().map(copied).collect();
        model.extend(self.tensors().iter().map(|(name, tensor)| (name.clone(), tensor.to_kind(Kind::Float).copy())));
        self.merge(&mut model)?;
        if let Some((name, _)) = model.iter().find(|(_, tensor)| !is_finite(tensor)) {
            return Err(Error::Unmergeable(format!("{name} would hold NaN or infinity")));
        }
        Ok(model)
    }
}

/// Refuses a tensor that is neither the head's nor accepted by `is_own`.
///
/// # Errors
/// The first such tensor.
pub(crate) fn check_tensors(
    tensors: &BTreeMap<String, Tensor>,
    encoder: &dyn Encoder,
    is_own: impl Fn(&str, &Tensor) -> bool,
) -> Result<()> {
    let head: Vec<String> = encoder.new_head(1, 0).params.into_iter().map(|param| param.name).collect();
    match tensors.iter().find(|(name, tensor)| !head.contains(name) && !is_own(name, tensor)) {
        Some((name, _)) => Err(Error::OtherBackbone { name: name.clone() }),
        None => Ok(()),
    }
}

/// Whether a tensor has the name and shape of one of the encoder's weights.
pub(crate) fn is_weight(encoder: &dyn Encoder, name: &str, tensor: &Tensor) -> bool {
    encoder.info().weights.iter().any(|(own, weight)| own == name && weight.size() == tensor.size())
}
