//! Full fine-tuning: every tensor of the backbone is trained (spec §1.5, the first row of the table).

use serde::{Deserialize, Serialize};

use crate::bound::Bound;
use crate::method::{MethodEntry, Stacking, build_with};
use crate::options::{Options, resolve_with};
use crate::tuners::base_weights::{BaseWeights, BaseWeightsFormat};

/// Full fine-tuning has no options.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FullOptions {}

impl Options for FullOptions {
    fn bounds(&self) -> Vec<Bound> {
        Vec::new()
    }
}

/// Files of full fine-tuning.
pub static FORMAT: BaseWeightsFormat = BaseWeightsFormat { peft_types: &["FULL"], is_trained: |_| true };

/// Registry line.
pub static ENTRY: MethodEntry = MethodEntry {
    name: "full",
    title: "Fine-tune",
    stacking: Stacking::Alone,
    phase_options: &[],
    final_budget_step: None,
    format: &FORMAT,
    examples: &[],
    resolve: resolve_with::<FullOptions>,
    build: |name, options, context, params| {
        build_with(name, options, context, params, |_: FullOptions, context, params| {
            BaseWeights::build(ENTRY.name, &FORMAT, params, context)
        })
    },
};
