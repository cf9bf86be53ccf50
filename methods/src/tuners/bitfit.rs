//! BitFit (Ben Zaken et al. 2022): every bias of the backbone is trained, those of LayerNorms included, and nothing else of it
//! (spec §1.5).

use serde::{Deserialize, Serialize};

use crate::bound::Bound;
use crate::method::{MethodEntry, Stacking, build_with};
use crate::options::{Options, resolve_with};
use crate::tuners::base_weights::{BaseWeights, BaseWeightsFormat};

/// BitFit has no options.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitFitOptions {}

impl Options for BitFitOptions {
    fn bounds(&self) -> Vec<Bound> {
        Vec::new()
    }
}

/// Files of BitFit.
pub static FORMAT: BaseWeightsFormat =
    BaseWeightsFormat { peft_types: &["BITFIT"], is_trained: |name| name.ends_with(".bias") };

/// Registry line.
pub static ENTRY: MethodEntry = MethodEntry {
    name: "bitfit",
    title: "BitFit",
    stacking: Stacking::Alone,
    phase_options: &[],
    final_budget_step: None,
    format: &FORMAT,
    examples: &[],
    resolve: resolve_with::<BitFitOptions>,
    build: |name, options, context, params| {
        build_with(name, options, context, params, |_: BitFitOptions, context, params| {
            BaseWeights::build(ENTRY.name, &FORMAT, params, context)
        })
    },
};
