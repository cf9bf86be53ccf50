//! AdaLoRA (spec §2): `y = W x + b + α/(r_init + 1e-5) P (Λ ⊙ (Q x))`, an orthogonality penalty, and a budget that masks the
//! least important singular values over all modules together.

use encoders::TargetModule;
use tch::{Device, Kind, Tensor};
use torch_ext::ops::orthogonality::gram_distances;

use crate::adapter::counts::{self, Counts};
use crate::adapter::lora_layer::LoraLayers;
use crate::adapter::module_groups::{Layout, ModuleGroup, ModuleGroups, ModuleInit};
use crate::error::{Error, Result};
use crate::method::{Context, Method, MethodEntry, Stacking, build_with};
use crate::optim::params::{ParamGroup, ParamViews, Params, ParamsBuilder};
use crate::optim::step_counter::StepCounter;
use crate::options::{parse, resolve_with};
use crate::peft::low_rank::LORA;
use crate::tuners::adalora::budget::{Budget, Phase};
use crate::tuners::adalora::importance::Importance;
use crate::tuners::adalora::options::{AdaLoraOptions, FinalPhase};

pub mod budget;
mod importance;
pub mod options;

/// AdaLoRA at every module.
pub struct AdaLora {
    modules: Vec<TargetModule>,
    groups: ModuleGroups,
    budget: Budget,
    options: AdaLoraOptions,
    importance: Importance,
    /// Components kept by the last mask, `[components]`, bool; the `peft` form keeps the one of `T - t_f`.
    kept: Tensor,
    /// k of every step, `[steps]`, int64.
    masked: Tensor,
}

/// Registry line.
pub static ENTRY: MethodEntry = MethodEntry {
    name: "adalora",
    title: "AdaLoRA",
    stacking: Stacking::Branches,
    phase_options: &["tinit", "tfinal", "delta_t", "final_phase"],
    final_budget_step: Some(final_budget_step),
    format: &LORA,
    examples: &["final_phase = 'peft'", "target_modules = ['query', 'value']", "lora_dropout = 0.1", "bias = 'all'"],
    resolve: resolve_with::<AdaLoraOptions>,
    build: |name, options, context, params| build_with(name, options, context, params, AdaLora::new),
};

impl AdaLora {
    /// Adds the start values of every module to `params`: A and B ~ N(0, 0.02²), E = 0 (spec §2.1).
    ///
    /// # Errors
    /// A budget that does not fall; phases that do not fit into the run.
    pub fn new(options: AdaLoraOptions, context: &Context, params: &mut ParamsBuilder) -> Result<Self> {
        let r = options.init_r;
        let budget = budget(&options, context)?;
        let start = params.group_len(ParamGroup::DECAYED);
        let scale = options.alpha / (r as f64 + 1e-5);
        let layout =
            Layout { dropout: options.branch.lora_dropout, bias: options.branch.bias, ..Layout::new(r, scale) };
        let groups = ModuleGroups::build(params, context.target_modules, context.backbone, &layout, |module| {
            let factors = ModuleInit::new(normal(&[r, module.d_in]), normal(&[module.d_out, r]));
            ModuleInit { gate: Some(Tensor::zeros([r], (Kind::Float, Device::Cpu))), ..factors }
        });
        let range = start..params.group_len(ParamGroup::DECAYED);
        let importance = Importance::zeros(range, params);
        let (_, device) = params.options();
        let kept = Tensor::ones([groups.component_count()], (Kind::Bool, device));
        let masked: Vec<i64> = (0..budget.total).map(|t| budget.initial - budget.at(t)).collect();
        let masked = Tensor::from_slice(&masked).to_device(device);
        Ok(AdaLora { modules: context.target_modules.to_vec(), groups, budget, options, importance, kept, masked })
    }

    /// The budget of this run.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Triplet scores of all components, `[components]`, shape by shape: `s(E) + mean s(P) + mean s(Q)`
    /// (paper eq. 9 to 13, spec §2.3).
    pub fn scores(&self, params: &Params) -> Tensor {
        let of_group = |group: &ModuleGroup| Some([group.a, group.b, group.gate?]);
        let shapes = self.groups.by_shape.iter().filter_map(of_group);
        self.importance.scores(params, &shapes.collect::<Vec<_>>())
    }

    /// Keeps the components whose score is above the k-th smallest, k = b(0) - budget; ties at it are masked too
    /// (spec §2.5). `[components]`, true where kept.
    pub fn kept_components(&self, scores: &Tensor, budget: i64) -> Tensor {
        above(scores, &Tensor::from(self.budget.initial - budget).to_device(scores.device()))
    }

    /// Sets E to zero where `kept` is false; P and Q stay, so a component can come back before the final phase.
    pub fn mask(&self, params: &Params, kept: &Tensor) {
        let Some(group) = params.group(ParamGroup::DECAYED) else {
            return;
        };
        let flat = group.flat.detach();
        let kept = kept.to_kind(flat.kind());
        let mut offset = 0;
        for slot in self.groups.by_shape.iter().filter_map(|group| group.gate) {
            let range = params.range(slot);
            let len = range.end - range.start;
            let mut values = flat.narrow(0, range.start, len);
            let _ = values.g_mul_(&kept.narrow(0, offset, len));
            offset += len;
        }
    }

    fn mask_by_scores(&mut self, params: &Params, step: &StepCounter) {
        let kept = above(&self.scores(params), &step.row_of(&self.masked));
        self.mask(params, &kept);
        self.kept.copy_(&kept);
    }

    /// Work that is due at step `t`: whether the importance averages are updated, and the mask.
    fn due(&self, t: usize) -> (bool, Mask) {
        let last_scored = self.budget.total - self.budget.tfinal;
        let keeps_mask = self.options.final_phase == FinalPhase::Peft;
        let mask = if keeps_mask && t > last_scored {
            Mask::Kept
        } else if self.budget.masks_at(t) || (keeps_mask && t == last_scored) {
            Mask::ByScores
        } else {
            Mask::None
        };
        (self.budget.scores_at(t), mask)
    }
}

/// Step at which the budget has fallen to its target, `T - t_f`; 0 for options that cannot be read.
fn final_budget_step(options: &toml::Table, steps: usize) -> usize {
    let options: Result<AdaLoraOptions> = parse(ENTRY.name, options);
    options.map_or(0, |options| steps.saturating_sub(options.tfinal.steps(steps)))
}

/// Which mask a step applies.
#[derive(Clone, Copy)]
enum Mask {
    None,
    ByScores,
    Kept,
}

/// True where a score is above the k-th smallest, which is where k scores are below it: nothing needs to be sorted.
fn above(scores: &Tensor, k: &Tensor) -> Tensor {
    let below = scores.unsqueeze(0).lt_tensor(&scores.unsqueeze(1)).sum_dim_intlist([1].as_slice(), false, Kind::Int64);
    below.ge_tensor(k)
}

/// Budget of the run, checked.
fn budget(options: &AdaLoraOptions, context: &Context) -> Result<Budget> {
    let misfit = |what, expected: String, got: String, help: &str| {
        Err(Error::DoesNotFit { method: ENTRY.name, what, expected, got, help: help.into() })
    };
    let total = context.protocol.steps;
    let (tinit, tfinal) = (options.tinit.steps(total), options.tfinal.steps(total));
    if options.target_r < 1 || options.target_r >= options.init_r {
        let expected = format!("1 to {} (below init_r)", options.init_r - 1);
        return misfit("target_r", expected, options.target_r.to_string(), "the budget must fall");
    }
    if tinit + tfinal >= total {
        let got = format!("{tinit} + {tfinal} for {total} steps");
        let help = "train longer, or shorten the phases (a fraction is a share of the run)";
        return misfit("tinit + tfinal", "fewer than the steps of the run".into(), got, help);
    }
    let n = context.target_modules.len() as i64;
    let (initial, target) = (n * options.init_r, n * options.target_r);
    Ok(Budget { initial, target, tinit, tfinal, delta_t: options.delta_t, total })
}

fn normal(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.02
}

impl Method for AdaLora {
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

    /// The mean over all A and B of the un-squared `||G - I||_F`, G the Gram matrix of the components (spec §2.2).
    fn penalty(&self, views: &ParamViews) -> Option<Tensor> {
        let factors = self.groups.by_shape.iter().map(|group| [group.a, group.b].map(|id| views.get(id)));
        Some(gram_distances(&factors.collect::<Vec<_>>()).mean_dim(-1, false, None::<Kind>))
    }

    /// γ (spec §2.2).
    fn penalty_weight(&self) -> Option<f64> {
        Some(self.options.gamma)
    }

    /// Importance, then masking when it is due (spec §2.5).
    fn after_step(&mut self, params: &Params, step: &StepCounter) -> Result<()> {
        tch::no_grad(|| {
            let (scores, mask) = self.due(step.number);
            if scores {
                self.importance.update(params, [self.options.beta1, self.options.beta2])?;
            }
            match mask {
                Mask::None => {}
                Mask::ByScores => self.mask_by_scores(params, step),
                Mask::Kept => self.mask(params, &self.kept),
            }
            Ok(())
        })
    }

    fn phase(&self, t: usize) -> usize {
        let (scores, mask) = self.due(t);
        usize::from(scores) * 3 + mask as usize
    }

    fn schedule_part(&self, t: usize) -> &'static str {
        match self.budget.phase(t) {
            Phase::Init => "full budget",
            Phase::Decrease => "falling budget",
            Phase::Final => "final budget",
        }
    }

    fn gates(&self, params: &Params) -> Vec<Tensor> {
        self.groups.gates(params)
    }

    /// As published: the running counter of the released code, `sum(rank * (d_in + d_out))`, Λ and head excluded.
    fn counts(&self, params: &Params) -> Counts {
        let adapters = tch::no_grad(|| self.adapters(&params.views()));
        let left = counts::effective(&self.modules, &adapters);
        let allocated = self.groups.factor_count() + self.groups.component_count();
        Counts { allocated, effective: left, as_published: left }.and(self.groups.bias_count)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        vec![
            ("average".to_string(), self.importance.average.copy()),
            ("uncertainty".to_string(), self.importance.uncertainty.copy()),
            ("kept".to_string(), self.kept.copy()),
        ]
    }

    fn load(&mut self, name: &str, value: &Tensor) -> Result<()> {
        let expected = match name {
            "average" | "uncertainty" => self.importance.average.size(),
            "kept" => vec![self.groups.component_count()],
            _ => Vec::new(),
        };
        if value.size() != expected {
            let (expected, got) = (format!("shape {expected:?}"), format!("shape {:?}", value.size()));
            return Err(Error::State { name: name.into(), expected, got });
        }
        match name {
            "average" => self.importance.average.copy_(value),
            "uncertainty" => self.importance.uncertainty.copy_(value),
            _ => self.kept.copy_(value),
        }
        Ok(())
    }
}
