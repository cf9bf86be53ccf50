//! The interface of every method.

use std::collections::BTreeMap;

use encoders::{Attach, ModuleKind, TargetModule};
use tch::{Device, Kind, Tensor};

use crate::adapter::counts::Counts;
use crate::adapter::lora_layer::{LoraLayer, LoraLayers};
use crate::adapter::module_groups::ModuleGroups;
use crate::adapter::pissa::PrincipalComponents;
use crate::error::{Error, Result};
use crate::optim::config::{GroupOptim, OptimConfig};
use crate::optim::params::{ParamGroup, ParamViews, Params, ParamsBuilder};
use crate::optim::step_counter::StepCounter;
use crate::options::{self, Options};
use crate::peft::format::{AdapterFormat, TrainedAdapter};
use crate::peft::low_rank::adapter::LowRankAdapter;

/// Surroundings that a method is built for.
pub struct Context<'a> {
    /// Linears that it may adapt: those that its `target_modules` choose.
    pub target_modules: &'a [TargetModule],
    /// Every tensor of the backbone by its Hugging Face name, as [`encoders::EncoderInfo::weights`] gives them.
    pub backbone: &'a [(String, Tensor)],
    /// Principal components of those tensors, shared by the runs that start from them.
    pub components: &'a PrincipalComponents,
    /// Optimiser, schedules and length of the run.
    pub protocol: &'a OptimConfig,
    /// Width that the authors' counter charges for every zero rank (spec §3.8).
    pub hidden_size: i64,
    /// Seed of the adapter's start values.
    pub seed: i64,
}

impl Context<'_> {
    /// The frozen weight of a module, `[d_out, d_in]`, in float32 or more, on the CPU.
    pub fn weight(&self, module: &TargetModule) -> Tensor {
        let weight = self.backbone[module.weight].1.detach().to_device(Device::Cpu);
        if weight.kind() == Kind::Double { weight } else { weight.to_kind(Kind::Float) }
    }
}

/// Builds a method of this name from its options and adds its parameters.
type Build = fn(&'static str, &toml::Table, &Context, &mut ParamsBuilder) -> Result<Box<dyn Method>>;

/// Options that are equal in runs that share their steps.
const SHARED_OPTIONS: [&str; 2] = ["target_modules", "lora_dropout"];

/// Runs that may share a step with a method's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stacking {
    /// None: it changes the backbone itself, or runs do not do the same at a step.
    Alone,
    /// Runs of the method.
    Own,
    /// Runs of every method with plain low-rank branches.
    Branches,
}

/// One method.
pub struct MethodEntry {
    /// Name on the command line and in every file.
    pub name: &'static str,
    /// Name in tables.
    pub title: &'static str,
    /// Which runs without trained biases share steps with its runs; see [`MethodEntry::stacks_with`].
    pub(crate) stacking: Stacking,
    /// Options that say at which steps a run does what ([`Method::phase`]).
    pub(crate) phase_options: &'static [&'static str],
    /// Step from which the rank budget is the final one, from resolved options and the run's steps; none for a method without a budget.
    pub final_budget_step: Option<fn(&toml::Table, usize) -> usize>,
    /// Its adapter files.
    pub format: &'static dyn AdapterFormat,
    /// Options beside the defaults, as TOML, with which the conformance tests try the method, too.
    pub examples: &'static [&'static str],
    /// Its options parser; see [`MethodEntry::options`].
    pub(crate) resolve: fn(&'static str, &toml::Table) -> Result<toml::Table>,
    /// See [`MethodEntry::build`].
    pub(crate) build: Build,
}

impl MethodEntry {
    /// The options with every default filled in.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong type or out of its bounds.
    pub fn options(&self, given: &toml::Table) -> Result<toml::Table> {
        (self.resolve)(self.name, given)
    }

    /// Whether a run with these options, resolved, can share its steps with runs of `other` with `other_options`: both attach nothing
    /// but low-rank branches, at the same modules and with the same dropout; runs of one method are in the same phase at every step.
    pub fn stacks_with(&self, options: &toml::Table, other: &MethodEntry, other_options: &toml::Table) -> bool {
        let same_method = self.name == other.name;
        let of_one_kind = match [self.stacking, other.stacking] {
            [Stacking::Alone, _] | [_, Stacking::Alone] => false,
            [Stacking::Branches, Stacking::Branches] => true,
            _ => same_method,
        };
        let phases = if same_method { self.phase_options } else { &[] };
        let has_biases = [options, other_options].iter().any(|options| options.contains_key("bias"));
        let is_alike = |option: &&str| options.get(*option) == other_options.get(*option);
        of_one_kind && !has_biases && SHARED_OPTIONS.iter().chain(phases).all(is_alike)
    }

    /// Builds the method and adds its parameters, a part of their own.
    ///
    /// # Errors
    /// Those of [`MethodEntry::options`]; options that do not fit the run or the backbone.
    pub fn build(
        &self,
        options: &toml::Table,
        context: &Context,
        params: &mut ParamsBuilder,
    ) -> Result<Box<dyn Method>> {
        let method = (self.build)(self.name, options, context, params)?;
        params.end_part();
        Ok(method)
    }
}

/// Builds a method from its options at the linears that they choose, drawing its start values from the context's seed.
pub(crate) fn build_with<O: Options, M: Method + 'static>(
    method: &'static str,
    options: &toml::Table,
    context: &Context,
    params: &mut ParamsBuilder,
    new: fn(O, &Context, &mut ParamsBuilder) -> Result<M>,
) -> Result<Box<dyn Method>> {
    let mut options: O = options::parse(method, options)?;
    options::check(method, &options)?;
    let branch = options.branch().cloned().unwrap_or_default();
    let chosen = branch.target_modules.select(method, context.target_modules)?;
    branch.bias.check(method, context.backbone, &chosen)?;
    let context = &Context { target_modules: &chosen, ..*context };
    tch::manual_seed(context.seed);
    Ok(Box::new(new(options, context, params)?))
}

/// One module's rank.
#[derive(Debug, Clone)]
pub struct ModuleRank {
    /// Module path of the module.
    pub module: String,
    /// Layer, from 0.
    pub layer: usize,
    /// Kind of linear.
    pub kind: ModuleKind,
    /// Non-zero components.
    pub rank: i64,
    /// Components at the start.
    pub max_rank: i64,
    /// Mean |gate|, for a method with gates.
    pub mean_abs_gate: Option<f64>,
}

/// A fine-tuning method: its attachments at the modules, and its part in a step. The order of calls is
/// `attach_step` and `penalty` in the forward pass, then backward, clipping, optimisers, `after_step`, clearing of the
/// gradients ([`crate::train_state::TrainState`]).
pub trait Method {
    /// Name on the command line.
    fn name(&self) -> &'static str;

    /// Modules of [`Method::adapters`], in the encoder's order.
    fn target_modules(&self) -> &[TargetModule] {
        &[]
    }

    /// Its low-rank branches by shape, for a method whose [`Method::attach`] is made of nothing else.
    fn module_groups(&self) -> Option<&ModuleGroups> {
        None
    }

    /// Settings that leave the method without effect over the run, in words.
    fn caution(&self) -> Option<String> {
        None
    }

    /// Low-rank adapters by module, for a method that is made of them.
    fn adapters(&self, _views: &ParamViews) -> LoraLayers {
        LoraLayers::new(Vec::new())
    }

    /// Attachments to the backbone in one forward pass, as they are evaluated.
    fn attach(&self, views: &ParamViews) -> Box<dyn Attach> {
        Box::new(self.adapters(views))
    }

    /// Attachments in the forward pass of a training step. May be captured, so the step's number is read on the device.
    fn attach_step(&self, views: &ParamViews, _step: &StepCounter) -> Box<dyn Attach> {
        self.attach(views)
    }

    /// The trained values with the head, as they are stored, attached and merged: plain branches for a method that is made of them.
    fn trained(&self, views: &ParamViews, head: BTreeMap<String, Tensor>) -> Box<dyn TrainedAdapter> {
        Box::new(LowRankAdapter::folded(self.target_modules(), &self.adapters(views), head))
    }

    /// Term added to the task loss times [`Method::penalty_weight`], `[]`, or `[runs]` for [`ParamViews::stack`]; never part of an
    /// evaluation loss.
    fn penalty(&self, _views: &ParamViews) -> Option<Tensor> {
        None
    }

    /// Weight of [`Method::penalty`]; `None` where the run has no such term.
    fn penalty_weight(&self) -> Option<f64> {
        None
    }

    /// How a group is optimised: by the protocol, unless the method has a rule of its own.
    fn group_optim(&self, group: ParamGroup, protocol: &OptimConfig) -> GroupOptim {
        protocol.group_optim(group)
    }

    /// Within a phase every step is the same work, so that one captured step serves them all.
    fn phase(&self, _t: usize) -> usize {
        0
    }

    /// Name of the part of the method's schedule that a step lies in; empty for a method without parts.
    fn schedule_part(&self, _t: usize) -> &'static str {
        ""
    }

    /// After the optimisers' update of a step, while the clipped gradients of the step are still there. It may ask the host
    /// only for the step's phase.
    ///
    /// # Errors
    /// A failure on the device.
    fn after_step(&mut self, _params: &Params, _step: &StepCounter) -> Result<()> {
        Ok(())
    }

    /// Stages of the method's schedule.
    fn stages(&self) -> usize {
        1
    }

    /// Value that the schedule gives the current stage, e.g. SoRA's ξ; none without a schedule.
    fn stage_value(&self) -> Option<f64> {
        None
    }

    /// After the last step of a stage of a schedule with several stages.
    fn stage_end(&mut self) {}

    /// Gates or singular values as they stand on the device, shape by shape, `[modules, r]` each; none for a method without.
    fn gates(&self, _params: &Params) -> Vec<Tensor> {
        Vec::new()
    }

    /// The three parameter counts, head not included.
    fn counts(&self, params: &Params) -> Counts;

    /// The method's own state, parameters excluded, by name.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Takes one tensor of [`Method::state`] back.
    fn load(&mut self, name: &str, _value: &Tensor) -> Result<()> {
        Err(Error::State { name: name.into(), expected: "no state".into(), got: "a tensor".into() })
    }
}

/// Whether two methods make the same attachments and [penalties](Method::penalty) of the same parameters, so that the parameters may
/// be stacked. Of methods whose runs
/// stack ([`MethodEntry::stacks_with`]): their modules, dropout and biases are equal, and values beside the trained ones are those of
/// the same weights.
pub fn attaches_alike(one: &dyn Method, other: &dyn Method) -> bool {
    let groups = one.module_groups().zip(other.module_groups());
    one.name() == other.name() && groups.is_some_and(|(one, other)| one.is_laid_out_as(other))
}

/// Gates or singular values of one module.
#[derive(Debug, Clone)]
pub struct ModuleGates {
    /// Path of the module.
    pub module: String,
    /// Layer, from 0.
    pub layer: usize,
    /// Kind of linear.
    pub kind: ModuleKind,
    /// Value of each component.
    pub values: Vec<f32>,
}

/// Gates of every module, read back from the parameters; none for a method without.
///
/// # Errors
/// A failure on the device.
pub fn module_gates(method: &dyn Method, params: &Params) -> Result<Vec<ModuleGates>> {
    let adapters = tch::no_grad(|| method.adapters(&params.views()));
    let of_module = |(module, adapter): (&TargetModule, &LoraLayer)| {
        let gate = adapter.gate.as_ref()?.detach().to_kind(Kind::Float);
        let values = Vec::<f32>::try_from(gate).map_err(Error::from);
        let (path, layer, kind) = (module.path.clone(), module.layer, module.kind);
        Some(values.map(|values| ModuleGates { module: path, layer, kind, values }))
    };
    adapters.attached(method.target_modules()).filter_map(of_module).collect()
}

/// Non-zero gates over all modules, `[]` in float32, counted on the device; none for a method without.
pub fn nonzero_gates(method: &dyn Method, params: &Params) -> Option<Tensor> {
    let counts = method.gates(params).into_iter().map(|gates| gates.ne(0.0).sum(Kind::Float));
    counts.reduce(|all, count| all + count)
}

/// Rank of every module, read back from the parameters.
pub fn ranks(method: &dyn Method, params: &Params) -> Vec<ModuleRank> {
    tch::no_grad(|| {
        let adapters = method.adapters(&params.views());
        adapters
            .attached(method.target_modules())
            .map(|(module, adapter)| ModuleRank {
                module: module.path.clone(),
                layer: module.layer,
                kind: module.kind,
                rank: adapter.rank(),
                max_rank: adapter.max_rank(),
                mean_abs_gate: adapter.gate.as_ref().map(|g| g.abs().mean(None::<tch::Kind>).double_value(&[])),
            })
            .collect()
    })
}
