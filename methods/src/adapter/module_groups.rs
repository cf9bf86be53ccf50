//! Modules of equal shape lie in one tensor, so that whatever a method does for every module is a few batched operations.

use encoders::TargetModule;
use tch::{Kind, Tensor};

use crate::adapter::bias::Bias;
use crate::adapter::lora_layer::{LoraLayer, LoraLayers, folded};
use crate::adapter::qkv::QkvGroup;
use crate::optim::params::{ParamGroup, ParamId, ParamViews, Params, ParamsBuilder};

/// Start values of one module's adapter.
pub struct ModuleInit {
    /// `[r, d_in]`.
    pub a: Tensor,
    /// `[d_out, r]`.
    pub b: Tensor,
    /// `[r]`, where the method has one.
    pub gate: Option<Tensor>,
    /// DoRA's m, `[d_out]`, where the method has one.
    pub magnitude: Option<Tensor>,
    /// Further components that are not trained, A `[n, d_in]` and B `[d_out, n]`, of a method without gates.
    pub fixed: Option<[Tensor; 2]>,
}

impl ModuleInit {
    /// A and B alone.
    pub fn new(a: Tensor, b: Tensor) -> Self {
        ModuleInit { a, b, gate: None, magnitude: None, fixed: None }
    }
}

/// Settings that all modules have in common.
pub struct Layout {
    /// Rank.
    pub r: i64,
    /// Scaling of the branch.
    pub scale: f64,
    /// Group of B. A and the magnitude are in [`ParamGroup::DECAYED`].
    pub b_group: ParamGroup,
    /// Group of the gate.
    pub gate_group: ParamGroup,
    /// Probability that a value of a branch's input is dropped in training.
    pub dropout: f64,
    /// Which biases of the backbone are trained besides, in [`ParamGroup::UNDECAYED`].
    pub bias: Bias,
}

impl Layout {
    /// Everything in [`ParamGroup::DECAYED`], without dropout and biases.
    pub fn new(r: i64, scale: f64) -> Self {
        let group = ParamGroup::DECAYED;
        Layout { r, scale, b_group: group, gate_group: group, dropout: 0.0, bias: Bias::None }
    }
}

/// Modules of one shape `(d_in, d_out)`.
pub struct ModuleGroup {
    /// Positions in the encoder's list of modules, ascending.
    pub modules: Vec<usize>,
    /// `[k, r, d_in]`.
    pub a: ParamId,
    /// `[k, d_out, r]`.
    pub b: ParamId,
    /// `[k, r]`, where the method has one.
    pub gate: Option<ParamId>,
    /// `[k, d_out]`, where the method has one.
    pub magnitude: Option<ParamId>,
    /// Input width.
    pub d_in: i64,
    /// Output width.
    pub d_out: i64,
    /// `[k, n, d_in]` and `[k, d_out, n]`, where the method has them.
    fixed: Option<[Tensor; 2]>,
    fused_qkv: Option<QkvGroup>,
}

/// A group's branches in one step.
pub(crate) struct GroupFactors {
    /// A `[.., k, r, d_in]`.
    pub a: Tensor,
    /// B `[.., k, d_out, r]`.
    pub b: Tensor,
    /// B with gate and scaling folded in, `[.., k, d_out, r]`.
    pub up: Tensor,
    /// `[.., k, r]`, where the method has one.
    pub gate: Option<Tensor>,
    /// `[.., k, d_out]`, where the method has one.
    pub magnitude: Option<Tensor>,
}

impl ModuleGroup {
    fn build(
        params: &mut ParamsBuilder,
        (d_in, d_out): (i64, i64),
        members: &[(&TargetModule, ModuleInit)],
        layout: &Layout,
    ) -> Self {
        let inits = || members.iter().map(|(_, init)| init);
        let stack = |part: &dyn Fn(&ModuleInit) -> Option<&Tensor>| {
            let parts: Option<Vec<&Tensor>> = inits().map(part).collect();
            parts.map(|parts| Tensor::stack(&parts, 0))
        };
        let required = |part: &dyn Fn(&ModuleInit) -> &Tensor| Tensor::stack(&inits().map(part).collect::<Vec<_>>(), 0);
        let (kind, device) = params.options();
        let mut add = |group: ParamGroup, part: &str, init: &Tensor| {
            params.add(group, format!("{d_in}x{d_out}.lora_{part}"), init)
        };
        let a = add(ParamGroup::DECAYED, "A", &required(&|init| &init.a));
        let b = add(layout.b_group, "B", &required(&|init| &init.b));
        let gate = stack(&|init| init.gate.as_ref()).map(|gate| add(layout.gate_group, "E", &gate));
        let magnitude = stack(&|init| init.magnitude.as_ref());
        let magnitude = magnitude.map(|magnitude| add(ParamGroup::DECAYED, "magnitude_vector", &magnitude));
        let here = |fixed: Tensor| fixed.to_device(device).to_kind(kind);
        let fixed_a = stack(&|init| init.fixed.as_ref().map(|[a, _]| a)).map(here);
        let fixed_b = stack(&|init| init.fixed.as_ref().map(|[_, b]| b)).map(here);
        let fixed = fixed_a.zip(fixed_b).map(|(a, b)| [a, b]);
        let modules: Vec<&TargetModule> = members.iter().map(|(module, _)| *module).collect();
        let fused_qkv = QkvGroup::of(&modules);
        let modules = modules.into_iter().map(|module| module.index).collect();
        ModuleGroup { modules, a, b, gate, magnitude, d_in, d_out, fixed, fused_qkv }
    }

    /// `[.., x, y]` of each module for `[.., k, x, y]` of the group. What is fused is a part of its own, so that the gradient
    /// of the others says nothing about it.
    fn by_module(&self, x: &Tensor) -> Vec<Tensor> {
        let Some(qkv) = &self.fused_qkv else { return x.unbind(-3) };
        let [first, others] = qkv.split(x).map(|part| part.unbind(-4));
        let of_layer = |(first, others): (Tensor, Tensor)| first.unbind(-3).into_iter().chain(modules_of(&others));
        first.into_iter().zip(others).flat_map(of_layer).collect()
    }

    /// A and B with the components that are not trained behind them; `None` without such.
    fn with_fixed(&self, a: &Tensor, b: &Tensor) -> Option<[Tensor; 2]> {
        let [fixed_a, fixed_b] = self.fixed.as_ref()?;
        let behind = |trained: &Tensor, fixed: &Tensor, dim: i64| {
            let runs = trained.size()[..trained.dim() - 3].to_vec();
            let fixed = fixed.to_kind(trained.kind()).expand([runs, fixed.size()].concat(), false);
            Tensor::cat(&[trained, &fixed], dim)
        };
        Some([behind(a, fixed_a, -2), behind(b, fixed_b, -1)])
    }

    /// How many modules there are till they repeat.
    pub(crate) fn period(&self) -> usize {
        self.fused_qkv.as_ref().map_or(1, |qkv| qkv.period as usize)
    }

    /// Whether every period begins with query, key and value of a layer.
    pub(crate) fn has_qkv(&self) -> bool {
        self.fused_qkv.is_some()
    }

    /// The group's branches of one step, of a function of its A and B.
    fn factors(&self, [a, b]: [Tensor; 2], scale: f64, views: &ParamViews) -> GroupFactors {
        let [a, b] = self.with_fixed(&a, &b).unwrap_or([a, b]);
        let [gate, magnitude] = [self.gate, self.magnitude].map(|id| id.map(|id| views.get(id).shallow_clone()));
        GroupFactors { up: folded(&b, gate.as_ref(), scale), a, b, gate, magnitude }
    }

    /// Adds the group's adapters of one step to those of all modules.
    fn attach(&self, factors: GroupFactors, scale: f64, adapters: &mut LoraLayers) {
        let GroupFactors { a, b, up, gate, magnitude } = factors;
        let branch = aligned(&a, &up);
        if let (Some(qkv), None) = (&self.fused_qkv, &magnitude) {
            let [a, up] = branch.as_ref().map_or([&a, &up], |[a, up]| [a, up]);
            qkv.fuse(a, up, &mut adapters.fused_qkv);
        }
        if let Some(branch) = branch {
            let [a, up] = branch.map(|x| self.by_module(&x));
            adapters.branches.resize_with(adapters.modules.len(), || None);
            for (&module, (a, up)) in self.modules.iter().zip(a.into_iter().zip(up)) {
                adapters.branches[module] = Some([a, up]);
            }
        }
        let fixed = self.fixed.as_ref().map_or(0, |[a, _]| a.size()[1]);
        let each = |values: Option<Tensor>| values.map(|values| values.unbind(-2).into_iter());
        let [mut gates, mut magnitudes] = [gate, magnitude].map(each);
        let parts = self.by_module(&a).into_iter().zip(b.unbind(-3)).zip(self.by_module(&up));
        for (&module, ((a, b), up)) in self.modules.iter().zip(parts) {
            let [gate, magnitude] =
                [&mut gates, &mut magnitudes].map(|values| values.as_mut().and_then(Iterator::next));
            adapters.modules[module] = Some(LoraLayer { a, b, gate, magnitude, fixed, scale, up });
        }
    }
}

/// `[.., x, y]` of each of `[.., n, x, y]`: for one, a view whose gradient is not copied.
pub(crate) fn modules_of(x: &Tensor) -> Vec<Tensor> {
    if x.size().iter().rev().nth(2) == Some(&1) { vec![x.squeeze_dim(-3)] } else { x.unbind(-3) }
}

/// Values of a row that tensor cores can read.
const ALIGNED: i64 = 8;

/// The least rank from that of U `[.., d_out, r]` on which tensor cores can read.
pub(crate) fn aligned_rank(up: &Tensor) -> i64 {
    let rank = up.size().last().copied().unwrap_or(0);
    // Products in float32 are made on them, too (ADR 0019).
    let has_tensor_cores = up.device().is_cuda() && matches!(up.kind(), Kind::BFloat16 | Kind::Float);
    if has_tensor_cores { rank + (-rank & (ALIGNED - 1)) } else { rank }
}

/// A `[.., r, d_in]` and U `[.., d_out, r]` with components of zero up to [`aligned_rank`]; `None` where it is theirs.
fn aligned(a: &Tensor, up: &Tensor) -> Option<[Tensor; 2]> {
    let missing = aligned_rank(up) - up.size().last()?;
    (missing > 0).then(|| [a.constant_pad_nd([0, 0, 0, missing]), up.constant_pad_nd([0, missing])])
}

/// The low-rank parameters of every module, grouped by shape.
pub struct ModuleGroups {
    /// One entry a shape, in the order of first appearance.
    pub by_shape: Vec<ModuleGroup>,
    /// Rank at the start, the same at every module.
    pub r: i64,
    scale: f64,
    dropout: f64,
    bias: Bias,
    /// Trained biases: position in the backbone, name and parameter.
    biases: Vec<(usize, String, ParamId)>,
    /// Values of the trained biases.
    pub bias_count: i64,
    module_count: usize,
}

/// Input and output width of a module.
type Shape = (i64, i64);

impl ModuleGroups {
    /// Draws the start values module by module (the order of the random numbers is the order of the modules, spec §6), then
    /// lays them out by shape. Trained biases of the backbone are behind them.
    pub fn build(
        params: &mut ParamsBuilder,
        modules: &[TargetModule],
        backbone: &[(String, Tensor)],
        layout: &Layout,
        mut init: impl FnMut(&TargetModule) -> ModuleInit,
    ) -> Self {
        let mut shapes: Vec<(Shape, Vec<(&TargetModule, ModuleInit)>)> = Vec::new();
        for module in modules {
            let (shape, member) = ((module.d_in, module.d_out), (module, init(module)));
            match shapes.iter_mut().find(|(known, _)| *known == shape) {
                Some((_, members)) => members.push(member),
                None => shapes.push((shape, vec![member])),
            }
        }
        let of_shape = |(shape, members): &(_, Vec<_>)| ModuleGroup::build(params, *shape, members, layout);
        let by_shape = shapes.iter().map(of_shape).collect();
        let Layout { r, scale, dropout, bias, .. } = *layout;
        let add = |(index, (name, value)): (usize, &(String, Tensor))| {
            (index, name.clone(), params.add(ParamGroup::UNDECAYED, name.as_str(), value))
        };
        let biases = bias.of(backbone, modules).map(add).collect();
        let bias_count = bias.of(backbone, modules).map(|(_, (_, value))| value.numel() as i64).sum();
        ModuleGroups { by_shape, r, scale, dropout, bias, biases, bias_count, module_count: modules.len() }
    }

    /// Whether the other's branches are the same functions of as many parameters.
    pub fn is_laid_out_as(&self, other: &Self) -> bool {
        let modules = |groups: &Self| {
            let of_group = |group: &ModuleGroup| (group.modules.clone(), group.fixed.is_some());
            groups.by_shape.iter().map(of_group).collect::<Vec<_>>()
        };
        self.r == other.r && self.scale == other.scale && modules(self) == modules(other)
    }

    /// The adapters of one step.
    pub fn adapters(&self, views: &ParamViews) -> LoraLayers {
        self.adapters_of(views, self.scale, |a, b| [a.shallow_clone(), b.shallow_clone()])
    }

    /// [`ModuleGroups::adapters`] with another scaling, made of a function of each group's A `[.., k, r, d_in]` and B
    /// `[.., k, d_out, r]`.
    pub fn adapters_of(
        &self,
        views: &ParamViews,
        scale: f64,
        factors: impl Fn(&Tensor, &Tensor) -> [Tensor; 2],
    ) -> LoraLayers {
        let last = self.by_shape.iter().flat_map(|group| &group.modules).max();
        let mut adapters = LoraLayers::new((0..last.map_or(0, |last| last + 1)).map(|_| None).collect());
        adapters.dropout = self.dropout;
        adapters.bias = self.bias;
        let trained =
            |(index, name, id): &(usize, String, ParamId)| (*index, (name.clone(), views.get(*id).shallow_clone()));
        adapters.weights = self.biases.iter().map(trained).collect();
        for group in &self.by_shape {
            let factors = group.factors(factors(views.get(group.a), views.get(group.b)), scale, views);
            group.attach(factors, scale, &mut adapters);
        }
        adapters
    }

    /// The branches of a shape in one step; for [`ParamViews::stack`], those of every run.
    pub(crate) fn factors(&self, shape: usize, views: &ParamViews) -> GroupFactors {
        let group = &self.by_shape[shape];
        group.factors([group.a, group.b].map(|id| views.get(id).shallow_clone()), self.scale, views)
    }

    /// Probability that a value of a branch's input is dropped in training.
    pub(crate) fn dropout(&self) -> f64 {
        self.dropout
    }

    /// The gates as they stand, shape by shape, `[k, r]` each.
    pub fn gates(&self, params: &Params) -> Vec<Tensor> {
        self.by_shape.iter().filter_map(|group| params.value(group.gate?)).collect()
    }

    /// Values of A and B at all modules: `r * sum(d_in + d_out)`.
    pub fn factor_count(&self) -> i64 {
        self.by_shape.iter().map(|group| group.modules.len() as i64 * self.r * (group.d_in + group.d_out)).sum()
    }

    /// Number of rank-one components at the start.
    pub fn component_count(&self) -> i64 {
        self.module_count as i64 * self.r
    }
}
