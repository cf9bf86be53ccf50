//! BitFit (Ben Zaken et al. 2022): every bias of the backbone is trained and nothing else of it (spec §1.5).

use encoders::Attach;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::count::Counts;
use crate::error::Result;
use crate::method::{Context, Method};
use crate::params::{Builder, Params, Views};
use crate::registry::{Entry, build_with, resolve_with};
use crate::weights::TrainedWeights;

/// BitFit has no options.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitFitOptions {}

/// Every bias of the backbone, those of LayerNorms included.
pub struct BitFit(TrainedWeights);

/// Registry line.
pub static ENTRY: Entry = Entry {
    name: "bitfit",
    title: "BitFit",
    resolve: resolve_with::<BitFitOptions>,
    build: |options, context, params| build_with("bitfit", options, context, params, BitFit::new),
};

impl BitFit {
    /// Adds the backbone's biases to `params`.
    ///
    /// # Errors
    /// None; every method's constructor may fail.
    pub fn new(_options: BitFitOptions, context: &Context, params: &mut Builder) -> Result<Self> {
        Ok(BitFit(TrainedWeights::build(params, context, |name| name.ends_with(".bias"))))
    }
}

impl Method for BitFit {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn attach(&self, views: &Views) -> Box<dyn Attach> {
        self.0.attach(views)
    }

    fn tensors(&self, views: &Views) -> Vec<(String, Tensor)> {
        self.0.tensors(views)
    }

    fn file_kind(&self) -> &'static str {
        "BITFIT"
    }

    fn counts(&self, _params: &Params) -> Counts {
        Counts::dense(self.0.count())
    }
}
