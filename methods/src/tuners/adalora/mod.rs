//! AdaLoRA (spec §2): `y = W x + b + α/(r_init + 1e-5) P (Λ ⊙ (Q x))`, an orthogonality penalty, and a budget that masks the
//! least important singular values over all modules together.

pub mod budget;

use std::ops::Range;

use encoders::TargetModule;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use torch_ext::ops::importance;

use crate::adapter::counts::{self, Counts};
use crate::adapter::lora_layer::LoraLayers;
use crate::adapter::module_groups::{ModuleGroup, ModuleGroups, ModuleInit};
use crate::error::{Error, Result};
use crate::method::{Context, Method};
use crate::method::{MethodEntry, build_with};
use crate::optim::params::{ParamGroup, ParamId, ParamViews, Params, ParamsBuilder};
use crate::optim::step_counter::StepCounter;
use crate::options::resolve_with;
use crate::options::{Bound, Options};
use crate::tuners::adalora::budget::{Budget, Phase};

/// A number of steps: absolute, or a share of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Span {
    /// Steps.
    Steps(usize),
    /// Share of all steps, from 0 to below 1, rounded down.
    Share(f64),
}

impl Span {
    fn steps(self, total: usize) -> usize {
        match self {
            Span::Steps(steps) => steps,
            Span::Share(share) => (share * total as f64) as usize,
        }
    }
}

/// What happens from step `T - t_f` on (spec §2.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinalPhase {
    /// Released code: a new mask from the frozen scores at every step after `T - t_f`.
    Released,
    /// huggingface/peft: masks at `T - t_f` in any case and keeps that mask.
    Peft,
}

/// Options of AdaLoRA.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaLoraOptions {
    /// Rank of every module at the start.
    pub init_r: i64,
    /// Average rank at the end.
    pub target_r: i64,
    /// Scaling numerator: the branch is scaled by α/(init_r + 1e-5) all through.
    pub alpha: f64,
    /// γ, weight of the orthogonality penalty.
    pub gamma: f64,
    /// t_i: steps (integer) or share of the run (fraction) with the full budget.
    pub tinit: Span,
    /// t_f: steps (integer) or share of the run (fraction) with the final budget.
    pub tfinal: Span,
    /// ΔT: steps between two maskings.
    pub delta_t: usize,
    /// Decay of the importance average.
    pub beta1: f64,
    /// Decay of the uncertainty average.
    pub beta2: f64,
    /// What happens in the final phase.
    pub final_phase: FinalPhase,
}

impl Default for AdaLoraOptions {
    /// The 1.27M row: 12 → 8 (spec §2.8); t_i and t_f are RTE's 600 and 1,800 of 3,900 steps as shares, so that they fit
    /// a run of any length.
    fn default() -> Self {
        AdaLoraOptions {
            init_r: 12,
            target_r: 8,
            alpha: 16.0,
            gamma: 0.1,
            tinit: Span::Share(0.15),
            tfinal: Span::Share(0.46),
            delta_t: 1,
            beta1: 0.85,
            beta2: 0.85,
            final_phase: FinalPhase::Released,
        }
    }
}

impl Options for AdaLoraOptions {
    fn bounds(&self) -> Vec<Bound> {
        let spans =
            [("tinit", self.tinit), ("tfinal", self.tfinal)].into_iter().filter_map(|(option, span)| match span {
                Span::Steps(_) => None,
                Span::Share(share) => {
                    Some(Bound::share(option, share).or("a number of steps is written without a point"))
                }
            });
        let numbers = [
            Bound::rank("init_r", self.init_r),
            Bound::rank("target_r", self.target_r),
            Bound::above_zero("alpha", self.alpha),
            Bound::zero_or_more("gamma", self.gamma),
            Bound::count("delta_t", self.delta_t),
            Bound::share("beta1", self.beta1),
            Bound::share("beta2", self.beta2),
        ];
        numbers.into_iter().chain(spans).collect()
    }
}

/// AdaLoRA at every module.
pub struct AdaLora {
    modules: Vec<TargetModule>,
    stacks: ModuleGroups,
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
    is_stackable: true,
    resolve: resolve_with::<AdaLoraOptions>,
    build: |options, context, params| build_with("adalora", options, context, params, AdaLora::new),
};

/// Smoothed importance and uncertainty of every value of A, B and E (spec §2.3), laid out as the parameters are.
struct Importance {
    /// Where A, B and E of all modules lie in the decayed group.
    range: Range<i64>,
    average: Tensor,
    uncertainty: Tensor,
}

impl AdaLora {
    /// Adds the start values of every module to `params`: A and B ~ N(0, 0.02²), E = 0 (spec §2.1).
    ///
    /// # Errors
    /// A budget that does not fall; phases that do not fit into the run.
    pub fn new(options: AdaLoraOptions, context: &Context, params: &mut ParamsBuilder) -> Result<Self> {
        let r = options.init_r;
        let budget = budget(&options, context)?;
        let start = params.group_len(ParamGroup::Decayed);
        let scale = options.alpha / (r as f64 + 1e-5);
        let stacks =
            ModuleGroups::build(params, context.target_modules, r, scale, ParamGroup::Decayed, |module| ModuleInit {
                a: normal(&[r, module.d_in]),
                b: normal(&[module.d_out, r]),
                gate: Some(Tensor::zeros([r], (Kind::Float, Device::Cpu))),
            });
        let range = start..params.group_len(ParamGroup::Decayed);
        let importance = Importance::zeros(range, params);
        let (_, device) = params.options();
        let kept = Tensor::ones([stacks.component_count()], (Kind::Bool, device));
        let masked: Vec<i64> = (0..budget.total).map(|t| budget.initial - budget.at(t)).collect();
        let masked = Tensor::from_slice(&masked).to_device(device);
        Ok(AdaLora { modules: context.target_modules.to_vec(), stacks, budget, options, importance, kept, masked })
    }

    /// The budget of this run.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Triplet scores of all components, `[components]`, stacked shape by shape: `s(E) + mean s(P) + mean s(Q)`
    /// (paper eq. 9 to 13, spec §2.3).
    pub fn scores(&self, params: &Params) -> Tensor {
        let scores = &self.importance.average * &self.importance.uncertainty;
        let part = |slot: ParamId| self.importance.part(&scores, params, slot);
        let of_class = |class: &ModuleGroup| {
            let vectors =
                part(class.a).mean_dim(-1, false, None::<Kind>) + part(class.b).mean_dim(1, false, None::<Kind>);
            match class.gate {
                Some(gate) => (vectors + part(gate)).flatten(0, -1),
                None => vectors.flatten(0, -1),
            }
        };
        Tensor::cat(&self.stacks.classes.iter().map(of_class).collect::<Vec<_>>(), 0)
    }

    /// Keeps the components whose score is above the k-th smallest, k = b(0) - budget; ties at it are masked too
    /// (spec §2.5). `[components]`, true where kept.
    pub fn kept_components(&self, scores: &Tensor, budget: i64) -> Tensor {
        above(scores, &Tensor::from(self.budget.initial - budget).to_device(scores.device()))
    }

    /// Sets E to zero where `kept` is false; P and Q stay, so a component can come back before the final phase.
    pub fn mask(&self, params: &Params, kept: &Tensor) {
        let Some(group) = params.group(ParamGroup::Decayed) else {
            return;
        };
        let flat = group.flat.detach();
        let mut offset = 0;
        for slot in self.stacks.classes.iter().filter_map(|class| class.gate) {
            let range = params.range(slot);
            let len = range.end - range.start;
            let mut values = flat.narrow(0, range.start, len);
            let _ = values.g_mul_(&kept.narrow(0, offset, len).to_kind(flat.kind()));
            offset += len;
        }
    }

    fn mask_by_scores(&mut self, params: &Params, step: &StepCounter) {
        let kept = above(&self.scores(params), &step.row_of(&self.masked));
        self.mask(params, &kept);
        self.kept.copy_(&kept);
    }

    /// What is due at step `t`: whether the importance averages go on, and the mask.
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
        Err(Error::DoesNotFit { method: "adalora", what, expected, got, help: help.into() })
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

impl Importance {
    fn zeros(range: Range<i64>, params: &ParamsBuilder) -> Self {
        let zeros = || Tensor::zeros([range.end - range.start], params.options());
        Importance { average: zeros(), uncertainty: zeros(), range: range.clone() }
    }

    /// With the updated weight and the step's clipped gradient.
    fn update(&self, params: &Params, betas: [f64; 2]) -> Result<()> {
        let Some(group) = params.group(ParamGroup::Decayed) else {
            return Ok(());
        };
        let part = |of: Tensor| of.narrow(0, self.range.start, self.range.end - self.range.start);
        let (values, grad) = (part(group.flat.detach()), part(group.flat.grad()));
        Ok(importance::update([&values, &grad], [&self.average, &self.uncertainty], betas)?)
    }

    /// The part of a tensor laid out like the averages that belongs to one parameter, in its shape.
    fn part(&self, of: &Tensor, params: &Params, slot: ParamId) -> Tensor {
        let range = params.range(slot);
        of.narrow(0, range.start - self.range.start, range.end - range.start).view(params.shape(slot))
    }
}

impl Method for AdaLora {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn target_modules(&self) -> &[TargetModule] {
        &self.modules
    }

    fn adapters(&self, views: &ParamViews) -> LoraLayers {
        self.stacks.adapters(views)
    }

    /// γ times the mean over all A and B of the un-squared `||G - I||_F`, G the Gram matrix of the components (spec §2.2).
    fn penalty(&self, views: &ParamViews) -> Option<Tensor> {
        let grams: Vec<Tensor> = self.stacks.classes.iter().flat_map(|class| grams(class, views)).collect();
        let weight = self.options.gamma / (2 * self.modules.len()) as f64;
        Some(gram_distance(&Tensor::cat(&grams, 0)) * weight)
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

    /// As published: the running counter of the released code, `sum(rank * (d_in + d_out))`, Λ and head excluded.
    fn counts(&self, params: &Params) -> Counts {
        let adapters = tch::no_grad(|| self.adapters(&params.views()));
        let left = counts::effective(&self.modules, &adapters);
        let allocated = self.stacks.factor_count() + self.stacks.component_count();
        Counts { allocated, effective: left, as_published: left }
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
            "kept" => vec![self.stacks.component_count()],
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

/// A and B of a shape, `[k, r, d_in]` and `[k, d_out, r]`, give their Gram matrices `[k, r, r]`, summed part by part: for so few
/// values a product's length is all that a GPU can share out.
fn grams(class: &ModuleGroup, views: &ParamViews) -> [Tensor; 2] {
    let (a, b) = (views.get(class.a), views.get(class.b));
    let ([k, r, d_in], d_out) = ([0, 1, 2].map(|dim| a.size()[dim]), b.size()[1]);
    let lines_of_a = a.view([k, r, parts(d_in), -1]).transpose(1, 2).flatten(0, 1);
    let lines_of_b = b.view([k * parts(d_out), -1, r]).transpose(1, 2);
    [lines_of_a, lines_of_b].map(|lines| {
        let of_parts = lines.bmm(&lines.transpose(1, 2)).view([k, -1, r, r]);
        of_parts.sum_dim_intlist([1].as_slice(), false, None::<Kind>)
    })
}

/// Parts of a sum over so many values.
fn parts(values: i64) -> i64 {
    const PART: i64 = 256;
    if values % PART == 0 { values / PART } else { 1 }
}

/// Sum over a stack of Gram matrices `[k, r, r]` of `||G - I||_F`.
fn gram_distance(gram: &Tensor) -> Tensor {
    let eye = Tensor::eye(gram.size()[1], (gram.kind(), gram.device()));
    (gram - eye).square().sum_dim_intlist([1, 2].as_slice(), false, None::<Kind>).sqrt().sum(None::<Kind>)
}
