//! LoRA (spec §1): `y = W x + b + (α/r) B A x`, A kaiming-uniform, B zero. Its options are rsLoRA (Kalajdzievski 2023;
//! spec §7.2), PiSSA (Meng et al. 2024; spec §7.3) and LoRA+ (Hayou et al. 2024; spec §7.4).

use encoders::TargetModule;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::adapter::branch_options::BranchOptions;
use crate::adapter::counts::Counts;
use crate::adapter::lora_layer::LoraLayers;
use crate::adapter::module_groups::{Layout, ModuleGroups, ModuleInit};
use crate::bound::{Bound, is_default};
use crate::error::{Error, Result};
use crate::method::{Context, Method, MethodEntry, Stacking, build_with};
use crate::optim::config::{GroupOptim, OptimConfig};
use crate::optim::params::{ParamGroup, ParamViews, Params, ParamsBuilder};
use crate::options::{Options, resolve_with};
use crate::peft::low_rank::LORA;

/// Options of LoRA.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoraOptions {
    /// Rank.
    pub r: i64,
    /// Scaling numerator: the branch is scaled by α/r.
    pub alpha: f64,
    /// Where branches are, their dropout, and trained biases.
    #[serde(flatten, skip_deserializing)]
    pub branch: BranchOptions,
    /// rsLoRA: the branch is scaled by α/√r instead.
    #[serde(skip_serializing_if = "is_default")]
    pub use_rslora: bool,
    /// Start values of A and B.
    #[serde(skip_serializing_if = "is_default")]
    pub init_lora_weights: InitLoraWeights,
    /// LoRA+: the rate of B, and of biases beside the adapters, is the protocol's times this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loraplus_lr_ratio: Option<f64>,
    /// LoRA+: weight decay of everything that is decayed; the protocol's where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loraplus_weight_decay: Option<f64>,
}

/// Start values of A and B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitLoraWeights {
    /// A kaiming-uniform, B zero.
    #[default]
    Kaiming,
    /// PiSSA: the principal singular components of the frozen weight, which are taken off it.
    Pissa,
}

impl Default for LoraOptions {
    /// r = 8 and α = 16 (spec §1.1; 1.33M parameters on DeBERTaV3-base).
    fn default() -> Self {
        LoraOptions {
            r: 8,
            alpha: 16.0,
            branch: BranchOptions::default(),
            use_rslora: false,
            init_lora_weights: InitLoraWeights::Kaiming,
            loraplus_lr_ratio: None,
            loraplus_weight_decay: None,
        }
    }
}

impl Options for LoraOptions {
    const BRANCH_KEYS: &[&str] = BranchOptions::KEYS;

    fn bounds(&self) -> Vec<Bound> {
        let ratio = self.loraplus_lr_ratio.map(|ratio| Bound::above_zero("loraplus_lr_ratio", ratio));
        let decay = self.loraplus_weight_decay.into_iter().flat_map(|decay| {
            let option = "loraplus_weight_decay";
            [
                Bound::zero_or_more(option, decay),
                Bound::needs(option, decay, self.loraplus_lr_ratio.is_some(), "loraplus_lr_ratio"),
            ]
        });
        let numbers = [
            Bound::rank("r", self.r),
            Bound::above_zero("alpha", self.alpha),
            self.branch.bound(),
            Bound::needs("lora_dropout", self.branch.lora_dropout, self.can_drop(), "init_lora_weights = \"kaiming\""),
        ];
        numbers.into_iter().chain(ratio).chain(decay).collect()
    }

    fn branch(&mut self) -> Option<&mut BranchOptions> {
        Some(&mut self.branch)
    }
}

impl LoraOptions {
    fn scale(&self) -> f64 {
        let r = self.r as f64;
        if self.use_rslora { self.alpha / r.sqrt() } else { self.alpha / r }
    }

    /// PiSSA's start values stand in the branch, but are no part of what PEFT drops the input of.
    fn can_drop(&self) -> bool {
        self.branch.lora_dropout == 0.0 || self.init_lora_weights == InitLoraWeights::Kaiming
    }

    /// B with LoRA+ has a rate of its own.
    fn b_group(&self) -> ParamGroup {
        if self.loraplus_lr_ratio.is_some() { LORA_B } else { ParamGroup::DECAYED }
    }
}

/// LoRA+'s group of B.
const LORA_B: ParamGroup = ParamGroup { name: "lora_b", decayed: true };

/// LoRA at every module.
pub struct Lora {
    modules: Vec<TargetModule>,
    groups: ModuleGroups,
    options: LoraOptions,
}

/// Registry line.
pub static ENTRY: MethodEntry = MethodEntry {
    name: "lora",
    title: "LoRA",
    stacking: Stacking::Branches,
    phase_options: &[],
    final_budget_step: None,
    format: &LORA,
    examples: &[
        "use_rslora = true",
        "target_modules = ['query', 'value']",
        "target_modules = ['query', 'key', 'value']",
        "target_modules = ['attention_output', 'output']",
        "lora_dropout = 0.1",
        "bias = 'all'",
        "bias = 'lora_only'\ntarget_modules = ['attention_output', 'output']",
        "init_lora_weights = 'pissa'\nr = 4",
        "loraplus_lr_ratio = 4.0\nloraplus_weight_decay = 0.05",
    ],
    resolve: resolve_with::<LoraOptions>,
    build: |name, options, context, params| build_with(name, options, context, params, Lora::new),
};

/// `A ~ U(-1/sqrt(d_in), 1/sqrt(d_in))`, which is kaiming-uniform with a = sqrt 5; `[r, d_in]`.
pub fn kaiming_a(r: i64, d_in: i64) -> Tensor {
    let bound = 1.0 / (d_in as f64).sqrt();
    Tensor::rand([r, d_in], (Kind::Float, tch::Device::Cpu)) * (2.0 * bound) - bound
}

/// `B = 0`, `[d_out, r]`.
pub fn zero_b(d_out: i64, r: i64) -> Tensor {
    Tensor::zeros([d_out, r], (Kind::Float, tch::Device::Cpu))
}

/// PiSSA's start: A and B are the principal components of W, which are taken off it.
fn principal_start(context: &Context, module: &TargetModule, r: i64, scale: f64) -> ModuleInit {
    let [a, b] = context.components.of(module.weight, || context.weight(module), r, scale);
    ModuleInit { fixed: Some([a.copy(), b.neg()]), ..ModuleInit::new(a, b) }
}

fn check_rank(r: i64, modules: &[TargetModule]) -> Result<()> {
    let most = modules.iter().map(|module| module.d_in.min(module.d_out)).min().unwrap_or(r);
    if r <= most {
        return Ok(());
    }
    Err(Error::DoesNotFit {
        method: ENTRY.name,
        what: "r",
        expected: format!("at most {most}"),
        got: r.to_string(),
        help: "PiSSA takes r singular components of every adapted weight".into(),
    })
}

impl Lora {
    /// Adds the start values of every module to `params`.
    ///
    /// # Errors
    /// PiSSA with a rank that a module's weight has not.
    pub fn new(options: LoraOptions, context: &Context, params: &mut ParamsBuilder) -> Result<Self> {
        let (r, scale) = (options.r, options.scale());
        let layout = Layout {
            b_group: options.b_group(),
            dropout: options.branch.lora_dropout,
            bias: options.branch.bias,
            ..Layout::new(r, scale)
        };
        let init: &dyn Fn(&TargetModule) -> ModuleInit = match options.init_lora_weights {
            InitLoraWeights::Kaiming => &|module| ModuleInit::new(kaiming_a(r, module.d_in), zero_b(module.d_out, r)),
            InitLoraWeights::Pissa => {
                check_rank(r, context.target_modules)?;
                &|module| principal_start(context, module, r, scale)
            }
        };
        let groups = ModuleGroups::build(params, context.target_modules, context.backbone, &layout, init);
        Ok(Lora { modules: context.target_modules.to_vec(), groups, options })
    }
}

impl Method for Lora {
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

    /// LoRA+ (spec §7.4), as PEFT groups the parameters: B and biases at the higher rate, decay where it is due.
    fn group_optim(&self, group: ParamGroup, protocol: &OptimConfig) -> GroupOptim {
        let mut rule = protocol.group_optim(group);
        if let Some(ratio) = self.options.loraplus_lr_ratio {
            rule.options.lr *= if group == ParamGroup::DECAYED { 1.0 } else { ratio };
            if group.decayed {
                rule.options.weight_decay = self.options.loraplus_weight_decay.unwrap_or(protocol.weight_decay);
            }
        }
        rule
    }

    fn counts(&self, _params: &Params) -> Counts {
        Counts::dense(self.groups.factor_count()).and(self.groups.bias_count)
    }
}
