//! DoRA (Liu et al. 2024; spec §7.1): `W' = m (W + (α/r) B A) / ||W + (α/r) B A||` by row, the norm without gradient. A
//! and B start as LoRA's, m as the norms of W's rows. There is no fused kernel: every linear forms its adapted weight
//! at every step to take the norms.

use encoders::TargetModule;
use encoders::nn::modules::row_norms;
use serde::{Deserialize, Serialize};

use crate::adapter::branch_options::BranchOptions;
use crate::adapter::counts::Counts;
use crate::adapter::lora_layer::LoraLayers;
use crate::adapter::module_groups::{Layout, ModuleGroups, ModuleInit};
use crate::bound::Bound;
use crate::error::Result;
use crate::method::{Context, Method, MethodEntry, Stacking, build_with};
use crate::optim::params::{ParamViews, Params, ParamsBuilder};
use crate::options::{Options, resolve_with};
use crate::peft::low_rank::LORA;
use crate::tuners::lora::{kaiming_a, zero_b};

/// Options of DoRA.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DoraOptions {
    /// Rank.
    pub r: i64,
    /// Scaling numerator: the branch is scaled by α/r.
    pub alpha: f64,
    /// Where branches are, their dropout, and trained biases.
    #[serde(flatten, skip_deserializing)]
    pub branch: BranchOptions,
}

impl Default for DoraOptions {
    /// LoRA's.
    fn default() -> Self {
        DoraOptions { r: 8, alpha: 16.0, branch: BranchOptions::default() }
    }
}

impl Options for DoraOptions {
    const BRANCH_KEYS: &[&str] = BranchOptions::KEYS;

    fn bounds(&self) -> Vec<Bound> {
        vec![Bound::rank("r", self.r), Bound::above_zero("alpha", self.alpha), self.branch.bound()]
    }

    fn branch(&mut self) -> Option<&mut BranchOptions> {
        Some(&mut self.branch)
    }
}

/// DoRA at every module.
pub struct Dora {
    modules: Vec<TargetModule>,
    groups: ModuleGroups,
}

/// Registry line.
pub static ENTRY: MethodEntry = MethodEntry {
    name: "dora",
    title: "DoRA",
    stacking: Stacking::Own,
    phase_options: &[],
    final_budget_step: None,
    format: &LORA,
    examples: &["target_modules = ['query', 'value']", "lora_dropout = 0.1", "bias = 'all'"],
    resolve: resolve_with::<DoraOptions>,
    build: |name, options, context, params| build_with(name, options, context, params, Dora::new),
};

impl Dora {
    /// Adds the start values of every module to `params`.
    ///
    /// # Errors
    /// None; the registry's builders may have some.
    pub fn new(options: DoraOptions, context: &Context, params: &mut ParamsBuilder) -> Result<Self> {
        let DoraOptions { r, alpha, ref branch, .. } = options;
        let layout = Layout { dropout: branch.lora_dropout, bias: branch.bias, ..Layout::new(r, alpha / r as f64) };
        let groups = ModuleGroups::build(params, context.target_modules, context.backbone, &layout, |module| {
            let factors = ModuleInit::new(kaiming_a(r, module.d_in), zero_b(module.d_out, r));
            ModuleInit { magnitude: Some(row_norms(&context.weight(module))), ..factors }
        });
        Ok(Dora { modules: context.target_modules.to_vec(), groups })
    }
}

impl Method for Dora {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn target_modules(&self) -> &[TargetModule] {
        &self.modules
    }

    fn module_groups(&self) -> Option<&ModuleGroups> {
        Some(&self.groups)
    }

    fn adapters(&self, views: &ParamViews) -> LoraLayers {
        self.groups.adapters(views)
    }

    fn counts(&self, _params: &Params) -> Counts {
        let magnitudes: i64 = self.modules.iter().map(|module| module.d_out).sum();
        Counts::dense(self.groups.factor_count() + magnitudes).and(self.groups.bias_count)
    }
}
