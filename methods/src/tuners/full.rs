//! Full fine-tuning: every tensor of the backbone is trained (spec §1.5, the first row of the table).

use serde::{Deserialize, Serialize};

use crate::method::{MethodEntry, build_with};
use crate::options::resolve_with;
use crate::options::{Bound, Options};
use crate::tuners::base_weights::BaseWeights;

/// Full fine-tuning has no options.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FullOptions {}

impl Options for FullOptions {
    fn bounds(&self) -> Vec<Bound> {
        Vec::new()
    }
}

/// Registry line.
pub static ENTRY: MethodEntry = MethodEntry {
    name: "full",
    title: "Fine-tune",
    is_stackable: false,
    resolve: resolve_with::<FullOptions>,
    build: |options, context, params| {
        build_with("full", options, context, params, |_: FullOptions, context, params| {
            Ok(BaseWeights::build("full", "FULL", params, context, |_| true))
        })
    },
};
