//! SoRA (spec §3): LoRA with a gate per component, `y = W x + b + (α/r_max) B (g ⊙ (A x))`, whose gates are sparsified by a
//! threshold after their own Adam step.

pub mod prox;

use encoders::TargetModule;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::adapter::counts::{self, Counts};
use crate::adapter::lora_layer::LoraLayers;
use crate::adapter::module_groups::{ModuleGroups, ModuleInit};
use crate::error::{Error, Result};
use crate::method::{Context, Method};
use crate::method::{MethodEntry, build_with};
use crate::optim::config::GroupOptim;
use crate::optim::config::OptimConfig;
use crate::optim::config::{AdamWOptions, DecayOrder, LinearSchedule};
use crate::optim::params::{ParamGroup, ParamViews, Params, ParamsBuilder};
use crate::optim::step_counter::StepCounter;
use crate::options::resolve_with;
use crate::options::{Bound, Options};
use crate::tuners::lora::{kaiming_a, zero_b};

/// Which SoRA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// As the released code runs: L1 term in the loss, and the released threshold (dead zone 2ξ) with constant ξ.
    Released,
    /// The proximal form the paper describes, reconstructed (its text was not at hand): no L1 term, the proximal map with
    /// threshold `lr_gate(t) * λ / N` of N gates: the map of the same term λ mean |g|.
    Paper,
}

/// How ξ grows from stage to stage (spec §3.9, `_build_lambda_list`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum XiSpacing {
    /// Equal steps.
    Linear,
    /// Logarithm of equal steps between the exponentials.
    LogLinear,
    /// Exponential of equal steps between the logarithms; needs ξ > 0.
    ExpLinear,
}

/// A sparsifying schedule.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct XiSchedule {
    /// Spacing of the list.
    pub spacing: XiSpacing,
    /// Last ξ.
    pub max: f64,
    /// Entries of the list, the first included.
    pub stages: usize,
}

/// Options of SoRA.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SoraOptions {
    /// Maximum rank.
    pub r: i64,
    /// Scaling numerator: the branch is scaled by α/r_max, also after pruning.
    pub alpha: f64,
    /// Released or paper form.
    pub variant: Variant,
    /// λ of the released form (`sparse_lambda`): weight of the mean |g| in the loss. Not used by the paper form.
    pub l1_weight: f64,
    /// λ of the paper form: weight of the mean |g| whose proximal map is the threshold. Not used by the released form.
    pub prox_weight: f64,
    /// ξ of the released form (`sparse_lambda_2`): constant threshold. Not used by the paper form.
    pub xi: f64,
    /// Peak learning rate of the gates; the protocol's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate_lr: Option<f64>,
    /// Sparsifying schedule over stages (released form only).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xi_schedule: Option<XiSchedule>,
}

impl Default for SoraOptions {
    /// r_max 8, α 16, λ = 10 and ξ = 3e-4: the only fixed setting the authors published (spec §4.5). The paper form has the
    /// same λ, so that `variant` can be changed alone.
    fn default() -> Self {
        SoraOptions {
            r: 8,
            alpha: 16.0,
            variant: Variant::Released,
            l1_weight: 10.0,
            prox_weight: 10.0,
            xi: 3e-4,
            gate_lr: None,
            xi_schedule: None,
        }
    }
}

impl Options for SoraOptions {
    fn bounds(&self) -> Vec<Bound> {
        let schedule = self.xi_schedule.map(|schedule| {
            [Bound::zero_or_more("xi_schedule.max", schedule.max), Bound::count("xi_schedule.stages", schedule.stages)]
        });
        let numbers = [
            Bound::rank("r", self.r),
            Bound::above_zero("alpha", self.alpha),
            Bound::zero_or_more("l1_weight", self.l1_weight),
            Bound::zero_or_more("prox_weight", self.prox_weight),
            Bound::zero_or_more("xi", self.xi),
        ];
        let gate_lr = self.gate_lr.map(|lr| Bound::above_zero("gate_lr", lr));
        numbers.into_iter().chain(gate_lr).chain(schedule.into_iter().flatten()).collect()
    }
}

/// SoRA at every module.
pub struct Sora {
    modules: Vec<TargetModule>,
    stacks: ModuleGroups,
    options: SoraOptions,
    hidden_size: i64,
    gate_lr: f64,
    gate_schedule: LinearSchedule,
    stages: Vec<f64>,
    stage: usize,
    /// `[stages or steps]`: the thresholds of the run, on the gates' device.
    thresholds: Tensor,
}

/// Registry line.
pub static ENTRY: MethodEntry = MethodEntry {
    name: "sora",
    title: "SoRA",
    is_stackable: true,
    resolve: resolve_with::<SoraOptions>,
    build: |options, context, params| build_with("sora", options, context, params, Sora::new),
};

impl Sora {
    /// Adds the start values of every module to `params`: g ~ N(0, 1), then A, drawn module by module (spec §6).
    ///
    /// # Errors
    /// A schedule whose list is not finite.
    pub fn new(options: SoraOptions, context: &Context, params: &mut ParamsBuilder) -> Result<Self> {
        let (r, scale) = (options.r, options.alpha / options.r as f64);
        let stages = xi_list(&options)?;
        let stacks = ModuleGroups::build(params, context.target_modules, r, scale, ParamGroup::Gates, |module| {
            let gate = Tensor::randn([r], (Kind::Float, tch::Device::Cpu));
            ModuleInit { a: kaiming_a(r, module.d_in), b: zero_b(module.d_out, r), gate: Some(gate) }
        });
        let mut sora = Sora {
            modules: context.target_modules.to_vec(),
            stacks,
            hidden_size: context.hidden_size,
            gate_lr: options.gate_lr.unwrap_or(context.protocol.lr),
            gate_schedule: context.protocol.gate_schedule,
            stages,
            stage: 0,
            thresholds: Tensor::new(),
            options,
        };
        let (kind, device) = params.options();
        sora.thresholds = sora.table(context.protocol.steps).to_kind(kind).to_device(device);
        Ok(sora)
    }

    /// Threshold of step `t` (from 0) in the current stage.
    pub fn threshold(&self, t: usize) -> f64 {
        match self.options.variant {
            Variant::Released => self.stages[self.stage],
            Variant::Paper => {
                self.gate_lr * self.gate_schedule.factor(t) * self.options.prox_weight
                    / self.stacks.component_count() as f64
            }
        }
    }

    /// The thresholds of the run, `[stages or steps]`.
    fn table(&self, steps: usize) -> Tensor {
        let values: Vec<f64> = match self.options.variant {
            Variant::Released => self.stages.clone(),
            Variant::Paper => (0..steps).map(|t| self.threshold(t)).collect(),
        };
        Tensor::from_slice(&values)
    }

    /// The current threshold from a table on the device: no host value enters the step.
    fn device_threshold(&self, step: &StepCounter) -> Tensor {
        match self.options.variant {
            Variant::Released => self.thresholds.get(self.stage as i64),
            Variant::Paper => step.row_of(&self.thresholds),
        }
    }

    fn is_thresholded(&self) -> bool {
        match self.options.variant {
            Variant::Released => self.stages[self.stage] > 0.0,
            Variant::Paper => self.options.prox_weight > 0.0,
        }
    }
}

/// ξ of every stage (spec §3.9): one entry without a schedule.
///
/// # Errors
/// A list with a value that is not finite (exponential spacing from ξ = 0) or without entries.
pub fn xi_list(options: &SoraOptions) -> Result<Vec<f64>> {
    let Some(schedule) = options.xi_schedule else {
        return Ok(vec![options.xi]);
    };
    let list = spaced(schedule.spacing, options.xi, schedule.max, schedule.stages);
    // The released optimiser starts from ξ itself, not from the list's first entry, which can differ in the last digit.
    let list: Vec<f64> = std::iter::once(options.xi).chain(list.into_iter().skip(1)).collect();
    if schedule.stages == 0 || list.iter().any(|xi| !xi.is_finite()) {
        return Err(Error::DoesNotFit {
            method: "sora",
            what: "xi_schedule",
            expected: "at least one stage, every threshold finite".into(),
            got: format!("{list:?}"),
            help: "exp_linear spacing needs xi > 0".into(),
        });
    }
    Ok(list)
}

/// `n` values from `low` to `high` (numpy's linspace, and the two other spacings of the released code).
pub fn spaced(spacing: XiSpacing, low: f64, high: f64, n: usize) -> Vec<f64> {
    match spacing {
        XiSpacing::Linear => linspace(low, high, n),
        XiSpacing::LogLinear => linspace(low.exp(), high.exp(), n).into_iter().map(f64::ln).collect(),
        XiSpacing::ExpLinear => linspace(low.ln(), high.ln(), n).into_iter().map(f64::exp).collect(),
    }
}

fn linspace(low: f64, high: f64, n: usize) -> Vec<f64> {
    let step = (high - low) / n.saturating_sub(1).max(1) as f64;
    (0..n).map(|i| if i + 1 == n && n > 1 { high } else { i as f64 * step + low }).collect()
}

impl Method for Sora {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn target_modules(&self) -> &[TargetModule] {
        &self.modules
    }

    fn adapters(&self, views: &ParamViews) -> LoraLayers {
        self.stacks.adapters(views)
    }

    /// λ times the mean |g| over all gates (spec §3.5); the gradient at g = 0 is 0.
    fn penalty(&self, views: &ParamViews) -> Option<Tensor> {
        if self.options.variant == Variant::Paper || self.options.l1_weight == 0.0 {
            return None;
        }
        let gates: Vec<Tensor> = self
            .stacks
            .classes
            .iter()
            .filter_map(|class| class.gate.map(|slot| views.get(slot).abs().sum(None::<Kind>)))
            .collect();
        let weight = self.options.l1_weight / self.stacks.component_count() as f64;
        Some(Tensor::stack(&gates, 0).sum(None::<Kind>) * weight)
    }

    /// Gates: Adam with ε 1e-6, no decay, their own rate and warm-up (spec §3.2).
    fn group_optim(&self, group: ParamGroup, protocol: &OptimConfig) -> GroupOptim {
        if group == ParamGroup::Gates {
            let options = AdamWOptions { eps: 1e-6, ..AdamWOptions::new(self.gate_lr, 0.0, DecayOrder::After) };
            return GroupOptim { options, schedule: self.gate_schedule };
        }
        protocol.group_optim(group)
    }

    /// The threshold, right after the gates' Adam update (spec §3.3).
    fn after_step(&mut self, params: &Params, step: &StepCounter) -> Result<()> {
        let Some(gates) = params.group(ParamGroup::Gates).map(|g| g.flat.detach()) else {
            return Ok(());
        };
        if !self.is_thresholded() {
            return Ok(());
        }
        let tau = self.device_threshold(step);
        tch::no_grad(|| {
            let mapped = match self.options.variant {
                Variant::Released => prox::released(&gates, &tau),
                Variant::Paper => prox::soft(&gates, &tau),
            };
            gates.shallow_clone().copy_(&mapped);
        });
        Ok(())
    }

    fn phase(&self, _t: usize) -> usize {
        self.stage
    }

    fn stages(&self) -> usize {
        self.stages.len()
    }

    fn stage_value(&self) -> Option<f64> {
        self.options.xi_schedule.map(|_| self.stages[self.stage])
    }

    /// Goes on to the next ξ; stays at the last one.
    fn stage_end(&mut self) {
        self.stage = (self.stage + 1).min(self.stages.len() - 1);
    }

    /// As published: all of A and B less `2 * hidden` for every zero gate, whatever the shape of its module (spec §3.8).
    fn counts(&self, params: &Params) -> Counts {
        let adapters = tch::no_grad(|| self.adapters(&params.views()));
        let kept: i64 = adapters.modules.iter().flatten().map(crate::adapter::lora_layer::LoraLayer::rank).sum();
        let zeros = self.stacks.component_count() - kept;
        Counts {
            allocated: self.stacks.factor_count() + self.stacks.component_count(),
            effective: counts::effective(&self.modules, &adapters),
            as_published: self.stacks.factor_count() - 2 * self.hidden_size * zeros,
        }
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        vec![("stage".into(), Tensor::from(self.stage as i64))]
    }

    fn load(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let stage = i64::try_from(value).unwrap_or(-1);
        if name != "stage" || stage < 0 || stage as usize >= self.stages.len() {
            return Err(Error::State {
                name: name.into(),
                expected: "stage of the schedule".into(),
                got: stage.to_string(),
            });
        }
        self.stage = stage as usize;
        Ok(())
    }
}
