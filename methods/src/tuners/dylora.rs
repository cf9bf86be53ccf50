//! DyLoRA (Valipour et al. 2023; spec §7.5): one training whose adapter can be cut to any rank up to r. Every step
//! draws a rank b and trains the LoRA of that rank, `y = W x + b + (α/b) B[:, :b] A[:b] x`, the same b at every module.

use encoders::{Attach, TargetModule};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::adapter::branch_options::BranchOptions;
use crate::adapter::counts::{self, Counts};
use crate::adapter::lora_layer::LoraLayers;
use crate::adapter::module_groups::{Layout, ModuleGroups, ModuleInit};
use crate::bound::Bound;
use crate::error::{Error, Result};
use crate::method::{Context, Method, MethodEntry, Stacking, build_with};
use crate::optim::params::{ParamViews, Params, ParamsBuilder};
use crate::optim::step_counter::StepCounter;
use crate::options::{Options, resolve_with};
use crate::peft::low_rank::LORA;
use crate::tuners::lora::{kaiming_a, zero_b};

/// Options of DyLoRA.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DyLoraOptions {
    /// Largest rank.
    pub r: i64,
    /// Scaling numerator: the branch of rank b is scaled by α/b.
    pub alpha: f64,
    /// Where branches are, their dropout, and trained biases.
    #[serde(flatten, skip_deserializing)]
    pub branch: BranchOptions,
    /// Whether a step updates component b alone instead of all up to b.
    pub frozen: bool,
    /// Rank that is evaluated and exported; r where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_r: Option<i64>,
}

impl Default for DyLoraOptions {
    /// LoRA's rank and α; frozen, as the authors' script for GLUE trains.
    fn default() -> Self {
        DyLoraOptions { r: 8, alpha: 16.0, branch: BranchOptions::default(), frozen: true, eval_r: None }
    }
}

impl Options for DyLoraOptions {
    const BRANCH_KEYS: &[&str] = BranchOptions::KEYS;

    fn bounds(&self) -> Vec<Bound> {
        let eval_r = self.eval_r.map(|eval_r| Bound::whole("eval_r", eval_r, 1..=self.r, "1 to r"));
        let numbers = [Bound::rank("r", self.r), Bound::above_zero("alpha", self.alpha), self.branch.bound()];
        numbers.into_iter().chain(eval_r).collect()
    }

    fn branch(&mut self) -> Option<&mut BranchOptions> {
        Some(&mut self.branch)
    }
}

/// DyLoRA at every module.
pub struct DyLora {
    modules: Vec<TargetModule>,
    groups: ModuleGroups,
    options: DyLoraOptions,
    /// Rank of every step, `[steps]`, int64.
    ranks: Tensor,
    /// Scaling of every component at every step, `[steps, r]`: α/b up to the step's rank b, then 0.
    scales: Tensor,
    /// 1 at component b of every step, else 0, `[steps, r]`.
    last: Tensor,
}

/// Registry line. The ranks of a step differ from run to run, so runs cannot be stacked.
pub static ENTRY: MethodEntry = MethodEntry {
    name: "dylora",
    title: "DyLoRA",
    stacking: Stacking::Alone,
    phase_options: &[],
    final_budget_step: None,
    format: &LORA,
    examples: &["frozen = false", "r = 2", "target_modules = ['query', 'value']", "lora_dropout = 0.1", "bias = 'all'"],
    resolve: resolve_with::<DyLoraOptions>,
    build: |name, options, context, params| build_with(name, options, context, params, DyLora::new),
};

impl DyLora {
    /// Adds the start values of every module to `params`, then draws the rank of every step from the same stream.
    ///
    /// # Errors
    /// None; the registry's builders may have some.
    pub fn new(options: DyLoraOptions, context: &Context, params: &mut ParamsBuilder) -> Result<Self> {
        let DyLoraOptions { r, alpha, ref branch, .. } = options;
        let layout = Layout { dropout: branch.lora_dropout, bias: branch.bias, ..Layout::new(r, alpha / r as f64) };
        let groups = ModuleGroups::build(params, context.target_modules, context.backbone, &layout, |module| {
            ModuleInit::new(kaiming_a(r, module.d_in), zero_b(module.d_out, r))
        });
        let steps = context.protocol.steps as i64;
        let ranks = Tensor::randint_low(1, r + 1, [steps], (Kind::Int64, Device::Cpu));
        let tables = Tensor::zeros([0], params.options());
        let modules = context.target_modules.to_vec();
        let mut dylora =
            DyLora { modules, groups, options, ranks: ranks.copy(), scales: tables.shallow_clone(), last: tables };
        dylora.set_ranks(&ranks);
        Ok(dylora)
    }

    /// Takes given ranks, one a step, `[steps]`, int64.
    pub fn set_ranks(&mut self, ranks: &Tensor) {
        self.ranks = ranks.copy();
        let rank = ranks.unsqueeze(1);
        let component = Tensor::arange_start(1, self.options.r + 1, (Kind::Int64, Device::Cpu));
        let scales =
            component.le_tensor(&rank).to_kind(Kind::Double) * (self.options.alpha / rank.to_kind(Kind::Double));
        let (kind, device) = (self.scales.kind(), self.scales.device());
        self.scales = scales.to_kind(kind).to_device(device);
        self.last = component.eq_tensor(&rank).to_kind(kind).to_device(device);
    }

    /// The LoRA of a rank: the first components of every module.
    pub fn cut(&self, views: &ParamViews, rank: i64) -> LoraLayers {
        let scale = self.options.alpha / rank as f64;
        self.groups.adapters_of(views, scale, |a, b| [a.narrow(-2, 0, rank), b.narrow(-1, 0, rank)])
    }

    /// The LoRA of a step's rank. All components take part, those above the rank with zeros in place of B, so that
    /// every step is the same work on the device.
    fn drawn(&self, views: &ParamViews, step: &StepCounter) -> LoraLayers {
        let (scales, last) = (step.row_of(&self.scales), step.row_of(&self.last));
        let other = last.ones_like() - &last;
        let trained = |x: &Tensor, last: &Tensor, other: &Tensor| x * last + x.detach() * other;
        self.groups.adapters_of(views, 1.0, |a, b| {
            let [trained_a, trained_b] = if self.options.frozen {
                [trained(a, &last.unsqueeze(-1), &other.unsqueeze(-1)), trained(b, &last, &other)]
            } else {
                [a, b].map(Tensor::shallow_clone)
            };
            [trained_a.to_kind(a.kind()), (trained_b * &scales).to_kind(b.kind())]
        })
    }
}

impl Method for DyLora {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn target_modules(&self) -> &[TargetModule] {
        &self.modules
    }

    fn adapters(&self, views: &ParamViews) -> LoraLayers {
        self.cut(views, self.options.eval_r.unwrap_or(self.options.r))
    }

    fn attach_step(&self, views: &ParamViews, step: &StepCounter) -> Box<dyn Attach> {
        Box::new(self.drawn(views, step))
    }

    /// Effective and published counts are those of the evaluated rank.
    fn counts(&self, params: &Params) -> Counts {
        let effective = counts::effective(&self.modules, &tch::no_grad(|| self.adapters(&params.views())));
        let counts = Counts { allocated: self.groups.factor_count(), effective, as_published: effective };
        counts.and(self.groups.bias_count)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        vec![("ranks".into(), self.ranks.copy())]
    }

    fn load(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let is_rank = |ranks: &Tensor| {
            let [least, most] = [ranks.min(), ranks.max()].map(|rank| i64::try_from(rank).unwrap_or(0));
            least >= 1 && most <= self.options.r
        };
        if name != "ranks" || value.size() != self.ranks.size() || value.kind() != Kind::Int64 || !is_rank(value) {
            let expected = format!("a rank from 1 to {} for each of {} steps", self.options.r, self.ranks.numel());
            return Err(Error::State { name: name.into(), expected, got: format!("{value:?}") });
        }
        self.set_ranks(&value.to_device(Device::Cpu));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_evaluated_rank_is_one_that_is_trained() {
        let options = |text: &str| ENTRY.options(&text.parse().unwrap());
        assert!(options("r = 4\neval_r = 4").is_ok() && options("r = 4\neval_r = 1").is_ok());
        for wrong in ["r = 4\neval_r = 5", "r = 4\neval_r = 0"] {
            let said = options(wrong).unwrap_err().to_string();
            assert!(said.contains("`eval_r`") && said.contains("expected 1 to r"), "{said}");
        }
    }
}
