//! Full fine-tuning: every tensor of the backbone is trained (spec §1.5, the first row of the table).

use encoders::Attach;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::count::Counts;
use crate::error::Result;
use crate::method::{Context, Method};
use crate::params::{Builder, Params, Views};
use crate::registry::{Entry, build_with, resolve_with};
use crate::weights::TrainedWeights;

/// Full fine-tuning has no options.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FullOptions {}

/// Every tensor of the backbone.
pub struct Full(TrainedWeights);

/// Registry line.
pub static ENTRY: Entry = Entry {
    name: "full",
    title: "Fine-tune",
    resolve: resolve_with::<FullOptions>,
    build: |options, context, params| build_with("full", options, context, params, Full::new),
};

impl Full {
    /// Adds the backbone's tensors to `params`.
    ///
    /// # Errors
    /// None; every method's constructor may fail.
    pub fn new(_options: FullOptions, context: &Context, params: &mut Builder) -> Result<Self> {
        Ok(Full(TrainedWeights::build(params, context, |_| true)))
    }
}

impl Method for Full {
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
        "FULL"
    }

    fn counts(&self, _params: &Params) -> Counts {
        Counts::dense(self.0.count())
    }
}
