//! Plausibility of a configuration's sizes, checked before anything of that size is allocated.

use crate::checkpoint::reader::Reader;
use crate::config::Config;
use crate::error::{Error, Result};

/// Values that a configuration may claim for each one of the checkpoint.
const CLAIM: f64 = 4.0;
/// Values that a configuration of a small checkpoint may claim.
const CLAIM_OF_SMALL: f64 = 1e6;
/// Layers that a configuration may claim beyond those of the checkpoint.
const CLAIMED_LAYERS: i64 = 64;

/// An option that is a dimension of a tensor.
#[derive(Clone, Copy)]
pub(crate) struct Size {
    pub option: &'static str,
    pub value: i64,
    /// Name without prefix.
    pub tensor: &'static str,
    pub dimension: usize,
}

/// Sizes of a configuration.
pub(crate) struct Claims<'a> {
    /// Values of all tensors.
    pub values: f64,
    pub layers: i64,
    /// Start of the names of a layer's tensors, up to its number.
    pub layer_prefix: &'a str,
    pub sizes: &'a [Size],
}

impl Claims<'_> {
    /// Refuses sizes that ask for far more than the checkpoint holds. Tensors of another shape in a checkpoint of about
    /// that size are reported with all the rest ([`Reader::finish`]).
    ///
    /// # Errors
    /// The first option that is not what the tensors say.
    pub fn check(&self, config: &Config, reader: &Reader) -> Result<()> {
        let Some((names, values)) = reader.contents() else { return Ok(()) };
        let layer = |name: &&str| name.strip_prefix(self.layer_prefix)?.split('.').next()?.parse::<i64>().ok();
        let layers = names.iter().filter_map(layer).max().map_or(0, |last| last.saturating_add(1));
        let is_plausible = self.values <= CLAIM * values + CLAIM_OF_SMALL;
        if is_plausible && self.layers <= layers.saturating_add(CLAIMED_LAYERS) {
            return Ok(());
        }
        let wrong = |option, value, found| Err(Error::Size { path: config.path().to_path_buf(), option, value, found });
        for &Size { option, value, tensor, dimension } in self.sizes {
            match reader.shape(tensor) {
                Some(shape) if shape.get(dimension) == Some(&value) => {}
                Some(shape) => return wrong(option, value, format!("{tensor} is {shape:?}")),
                None => return wrong(option, value, format!("the checkpoint has no {tensor}")),
            }
        }
        wrong("num_hidden_layers", self.layers, format!("the checkpoint has {layers} layers"))
    }
}
