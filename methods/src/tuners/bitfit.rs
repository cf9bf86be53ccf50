//! BitFit (Ben Zaken et al. 2022): every bias of the backbone is trained, those of LayerNorms included, and nothing else of it
//! (spec §1.5).

use serde::{Deserialize, Serialize};

use crate::method::{MethodEntry, build_with};
use crate::options::resolve_with;
use crate::options::{Bound, Options};
use crate::tuners::base_weights::BaseWeights;

/// BitFit has no options.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitFitOptions {}

impl Options for BitFitOptions {
    fn bounds(&self) -> Vec<Bound> {
        Vec::new()
    }
}

/// Registry line.
pub static ENTRY: MethodEntry = MethodEntry {
    name: "bitfit",
    title: "BitFit",
    is_stackable: false,
    resolve: resolve_with::<BitFitOptions>,
    build: |options, context, params| {
        build_with("bitfit", options, context, params, |_: BitFitOptions, context, params| {
            Ok(BaseWeights::build("bitfit", "BITFIT", params, context, |name| name.ends_with(".bias")))
        })
    },
};
