//! SoRA (spec §3): LoRA with a gate per component, `y = W x + b + (α/r_max) B (g ⊙ (A x))`, whose gates are sparsified by a
//! threshold after their own Adam step.

use encoders::TargetModule;
use tch::{Device, Kind, Tensor};

use crate::adapter::branch_options::BranchOptions;
use crate::adapter::counts::{self, Counts};
use crate::adapter::lora_layer::{LoraLayer, LoraLayers};
use crate::adapter::module_groups::{Layout, ModuleGroups, ModuleInit};
use crate::error::{Error, Result};
use crate::method::{Context, Method, MethodEntry, Stacking, build_with};
use crate::optim::config::{AdamWOptions, DecayOrder, GroupOptim, LinearSchedule, OptimConfig};
use crate::optim::params::{ParamGroup, ParamViews, Params, ParamsBuilder};
use crate::optim::step_counter::StepCounter;
use crate::options::resolve_with;
use crate::peft::low_rank::LORA;
use crate::tuners::lora::{kaiming_a, zero_b};
use crate::tuners::sora::options::{SoraOptions, Variant};
use crate::tuners::sora::xi::xi_list;

pub mod options;
pub mod prox;
pub mod xi;

/// The gates: their own Adam, and the threshold.
pub const GATES: ParamGroup = ParamGroup { name: "gates", decayed: false };

/// Least sum of the thresholds of a run that can prune a gate, which starts at about 1: below it they reach fewer than one gate in
/// twelve. The published setting's sum is 4.3 (spec §3.3).
const LEAST_REACH: f64 = 0.1;

/// SoRA at every module.
pub struct Sora {
    modules: Vec<TargetModule>,
    groups: ModuleGroups,
    options: SoraOptions,
    hidden_size: i64,
    gate_lr: f64,
    gate_schedule: LinearSchedule,
    steps: usize,
    stages: Vec<f64>,
    stage: usize,
    /// `[stages or steps]`: the thresholds of the run, on the gates' device.
    thresholds: Tensor,
}

/// Registry line.
pub static ENTRY: MethodEntry = MethodEntry {
    name: "sora",
    title: "SoRA",
    stacking: Stacking::Branches,
    phase_options: &[],
    final_budget_step: None,
    format: &LORA,
    examples: &[
        "gate_lr = 1e-3\nxi_schedule = { spacing = 'linear', max = 1e-3, stages = 3 }",
        "variant = 'paper'",
        "target_modules = ['query', 'value']",
        "lora_dropout = 0.1",
        "bias = 'all'",
    ],
    resolve: resolve_with::<SoraOptions>,
    build: |name, options, context, params| build_with(name, options, context, params, Sora::new),
};

impl Sora {
    /// Adds the start values of every module to `params`: g ~ N(0, 1), then A, drawn module by module (spec §6).
    ///
    /// # Errors
    /// A schedule whose list is not finite.
    pub fn new(options: SoraOptions, context: &Context, params: &mut ParamsBuilder) -> Result<Self> {
        let (r, scale) = (options.r, options.alpha / options.r as f64);
        let stages = xi_list(ENTRY.name, &options)?;
        let BranchOptions { lora_dropout: dropout, bias, .. } = options.branch;
        let layout = Layout { gate_group: GATES, dropout, bias, ..Layout::new(r, scale) };
        let groups = ModuleGroups::build(params, context.target_modules, context.backbone, &layout, |module| {
            let gate = Tensor::randn([r], (Kind::Float, Device::Cpu));
            ModuleInit { gate: Some(gate), ..ModuleInit::new(kaiming_a(r, module.d_in), zero_b(module.d_out, r)) }
        });
        let mut sora = Sora {
            modules: context.target_modules.to_vec(),
            groups,
            hidden_size: context.hidden_size,
            gate_lr: options.gate_lr.unwrap_or(context.protocol.lr),
            gate_schedule: context.protocol.gate_schedule,
            steps: context.protocol.steps,
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
                    / self.groups.component_count() as f64
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

    /// Most that the thresholds of the whole run can take off a gate.
    fn reach(&self) -> f64 {
        match self.options.variant {
            Variant::Released => self.stages.iter().copied().fold(0.0, f64::max) * self.steps as f64,
            Variant::Paper => (0..self.steps).map(|t| self.threshold(t)).sum(),
        }
    }

    fn is_thresholded(&self) -> bool {
        match self.options.variant {
            Variant::Released => self.stages[self.stage] > 0.0,
            Variant::Paper => self.options.prox_weight > 0.0,
        }
    }
}

impl Method for Sora {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn target_modules(&self) -> &[TargetModule] {
        &self.modules
    }

    fn caution(&self) -> Option<String> {
        let (reach, steps) = (self.reach(), self.steps);
        let option = if self.options.variant == Variant::Released { "xi" } else { "prox_weight" };
        match self.is_thresholded() || self.options.xi_schedule.is_some() {
            false => Some(format!("{option} is 0, so no gate becomes exactly zero and nothing is pruned")),
            true => (reach < LEAST_REACH).then(|| {
                format!(
                    "the threshold takes at most {reach:.2} off a gate in {steps} steps, and gates start at about 1: next to none is \
                     pruned. The published setting takes 4.3 off; a larger {option} does here"
                )
            }),
        }
    }

    fn module_groups(&self) -> Option<&ModuleGroups> {
        Some(&self.groups)
    }

    fn adapters(&self, views: &ParamViews) -> LoraLayers {
        self.groups.adapters(views)
    }

    /// The mean |g| over all gates (spec §3.5); the gradient at g = 0 is 0.
    fn penalty(&self, views: &ParamViews) -> Option<Tensor> {
        let gates = self.groups.by_shape.iter().filter_map(|group| Some(views.get(group.gate?).flatten(-2, -1)));
        let gates = Tensor::cat(&gates.collect::<Vec<_>>(), -1);
        Some(gates.abs().mean_dim(-1, false, None::<Kind>))
    }

    /// λ (spec §3.5).
    fn penalty_weight(&self) -> Option<f64> {
        let has_penalty = self.options.variant == Variant::Released && self.options.l1_weight != 0.0;
        has_penalty.then_some(self.options.l1_weight)
    }

    /// Gates: Adam with ε 1e-6, no decay, their own rate and warm-up (spec §3.2).
    fn group_optim(&self, group: ParamGroup, protocol: &OptimConfig) -> GroupOptim {
        if group == GATES {
            let options = AdamWOptions { eps: 1e-6, ..AdamWOptions::new(self.gate_lr, 0.0, DecayOrder::After) };
            return GroupOptim { options, schedule: self.gate_schedule };
        }
        protocol.group_optim(group)
    }

    /// The threshold, right after the gates' Adam update (spec §3.3).
    fn after_step(&mut self, params: &Params, step: &StepCounter) -> Result<()> {
        let Some(gates) = params.group(GATES).map(|g| g.flat.detach()) else {
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

    fn gates(&self, params: &Params) -> Vec<Tensor> {
        self.groups.gates(params)
    }

    /// As published: all of A and B less `2 * hidden` for every zero gate, whatever the shape of its module (spec §3.8).
    fn counts(&self, params: &Params) -> Counts {
        let adapters = tch::no_grad(|| self.adapters(&params.views()));
        let kept: i64 = adapters.modules.iter().flatten().map(LoraLayer::rank).sum();
        let zeros = self.groups.component_count() - kept;
        let counts = Counts {
            allocated: self.groups.factor_count() + self.groups.component_count(),
            effective: counts::effective(&self.modules, &adapters),
            as_published: self.groups.factor_count() - 2 * self.hidden_size * zeros,
        };
        counts.and(self.groups.bias_count)
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
