//! Modules of equal shape are stacked, so that whatever a method does for every module is a few batched operations.

use encoders::{ModuleKind, TargetModule};
use tch::{Kind, Tensor};

use crate::adapter::lora_layer::{LoraLayer, LoraLayers, folded};
use crate::optim::params::{ParamGroup, ParamId, ParamViews, ParamsBuilder};

/// Start values of one module's adapter.
pub struct ModuleInit {
    /// `[r, d_in]`.
    pub a: Tensor,
    /// `[d_out, r]`.
    pub b: Tensor,
    /// `[r]`, where the method has one.
    pub gate: Option<Tensor>,
}

/// Modules of one shape `(d_in, d_out)`.
pub struct ModuleGroup {
    /// Positions in the list of modules, ascending.
    pub modules: Vec<usize>,
    /// `[k, r, d_in]`.
    pub a: ParamId,
    /// `[k, d_out, r]`.
    pub b: ParamId,
    /// `[k, r]`, where the method has one.
    pub gate: Option<ParamId>,
    /// Input width.
    pub d_in: i64,
    /// Output width.
    pub d_out: i64,
    fused_qkv: Option<QkvGroup>,
}

/// How the modules of a class repeat from layer to layer, where each layer begins with query, key and value.
struct QkvGroup {
    /// The layers, ascending.
    layers: Vec<usize>,
    /// Modules of the class in a layer.
    period: i64,
}

/// Query, key and value.
const JOINED: i64 = 3;

impl QkvGroup {
    /// `None` where the modules do not repeat like that.
    fn of(modules: &[&TargetModule]) -> Option<Self> {
        let layers: Vec<usize> = modules.iter().filter(|s| s.kind == ModuleKind::Query).map(|s| s.layer).collect();
        let period = modules.len().checked_div(layers.len()).filter(|period| period * layers.len() == modules.len())?;
        let begins = |(chunk, layer): (&[&TargetModule], &usize)| {
            let kinds = chunk.iter().map(|module| module.kind);
            let begins = kinds.take(3).eq([ModuleKind::Query, ModuleKind::Key, ModuleKind::Value]);
            begins && chunk.iter().all(|module| module.layer == *layer)
        };
        let repeats = modules.chunks(period).zip(&layers).all(begins);
        repeats.then_some(QkvGroup { layers, period: period as i64 })
    }

    /// Every layer's modules in front: `[.., layers, period, x, y]` of a class's `[.., k, x, y]`, in two parts: the fused ones
    /// and the others.
    fn split(&self, x: &Tensor) -> [Tensor; 2] {
        let by_layer = x.unflatten(-3, [self.layers.len() as i64, self.period]);
        let mut parts = by_layer.split_with_sizes([JOINED, self.period - JOINED], -3).into_iter();
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }

    /// A `[.., k, r, d_in]` and U `[.., k, d_out, r]` of a class as one branch a layer.
    fn join(&self, a: &Tensor, up: &Tensor, fused_qkv: &mut Vec<Option<[Tensor; 2]>>) {
        let [a, up] = [a, up].map(|x| self.split(x)[0].shallow_clone());
        let eye = Tensor::eye(JOINED, (up.kind(), up.device())).view([JOINED, 1, JOINED, 1]);
        let up = (up.unsqueeze(-2) * eye).flatten(-2, -1).flatten(-3, -2);
        for ((&layer, a), up) in self.layers.iter().zip(a.flatten(-3, -2).unbind(-3)).zip(up.unbind(-3)) {
            fused_qkv.resize_with(fused_qkv.len().max(layer + 1), || None);
            fused_qkv[layer] = Some([a, up]);
        }
    }
}

impl ModuleGroup {
    /// `[.., x, y]` of each module for `[.., k, x, y]` of the class. What is fused is a part of its own, so that the gradient
    /// of the others says nothing about it.
    fn by_module(&self, x: &Tensor) -> Vec<Tensor> {
        let Some(group) = &self.fused_qkv else { return x.unbind(-3) };
        let [first, others] = group.split(x).map(|part| part.unbind(-4));
        let of_layer = |(first, others): (Tensor, Tensor)| first.unbind(-3).into_iter().chain(modules_of(&others));
        first.into_iter().zip(others).flat_map(of_layer).collect()
    }
}

/// `[.., x, y]` of each of `[.., n, x, y]`: for one, a view whose gradient is not copied.
fn modules_of(x: &Tensor) -> Vec<Tensor> {
    if x.size().iter().rev().nth(2) == Some(&1) { vec![x.squeeze_dim(-3)] } else { x.unbind(-3) }
}

/// Values of a line that tensor cores can read.
const ALIGNED: i64 = 8;

/// A `[.., r, d_in]` and U `[.., d_out, r]` with components of zero up to a rank that tensor cores can read; `None` where
/// there are none, or where it is such a rank.
fn aligned(a: &Tensor, up: &Tensor) -> Option<[Tensor; 2]> {
    let missing = -up.size().last()? & (ALIGNED - 1);
    // Products in float32 are made on them, too (ADR 0019).
    let has_tensor_cores = a.device().is_cuda() && matches!(a.kind(), Kind::BFloat16 | Kind::Float);
    (has_tensor_cores && missing > 0).then(|| [a.constant_pad_nd([0, 0, 0, missing]), up.constant_pad_nd([0, missing])])
}

/// The low-rank parameters of every module, stacked by shape.
pub struct ModuleGroups {
    /// One entry a shape, in the order of first appearance.
    pub classes: Vec<ModuleGroup>,
    /// Rank at the start, the same at every module.
    pub r: i64,
    scale: f64,
    module_count: usize,
}

impl ModuleGroups {
    /// Draws the start values module by module (the order of the random numbers is the order of the modules, spec §6), then
    /// lays them out by shape. A and B are decayed; gates go to `gate_group`.
    pub fn build(
        params: &mut ParamsBuilder,
        modules: &[TargetModule],
        r: i64,
        scale: f64,
        gate_group: ParamGroup,
        mut init: impl FnMut(&TargetModule) -> ModuleInit,
    ) -> Self {
        let inits: Vec<ModuleInit> = modules.iter().map(&mut init).collect();
        let mut classes: Vec<ModuleGroup> = Vec::new();
        let mut shapes: Vec<(i64, i64)> = Vec::new();
        for module in modules {
            if !shapes.contains(&(module.d_in, module.d_out)) {
                shapes.push((module.d_in, module.d_out));
            }
        }
        for (d_in, d_out) in shapes {
            let members: Vec<usize> =
                (0..modules.len()).filter(|&i| (modules[i].d_in, modules[i].d_out) == (d_in, d_out)).collect();
            let stack = |part: &dyn Fn(&ModuleInit) -> Tensor| {
                Tensor::stack(&members.iter().map(|&i| part(&inits[i])).collect::<Vec<_>>(), 0)
            };
            let name = |letter: &str| format!("{d_in}x{d_out}.lora_{letter}");
            let a = params.add(ParamGroup::Decayed, name("A"), &stack(&|s| s.a.shallow_clone()));
            let b = params.add(ParamGroup::Decayed, name("B"), &stack(&|s| s.b.shallow_clone()));
            let gates: Option<Vec<Tensor>> =
                members.iter().map(|&i| inits[i].gate.as_ref().map(Tensor::shallow_clone)).collect();
            let gate = gates.map(|gates| params.add(gate_group, name("E"), &Tensor::stack(&gates, 0)));
            let fused_qkv = QkvGroup::of(&members.iter().map(|&i| &modules[i]).collect::<Vec<_>>());
            classes.push(ModuleGroup { modules: members, a, b, gate, d_in, d_out, fused_qkv });
        }
        ModuleGroups { classes, r, scale, module_count: modules.len() }
    }

    /// The adapters of one step; for [`ParamViews::together`], those of every run, stacked.
    pub fn adapters(&self, views: &ParamViews) -> LoraLayers {
        let mut adapters = LoraLayers::new((0..self.module_count).map(|_| None).collect());
        for class in &self.classes {
            let (a, b) = (views.get(class.a), views.get(class.b));
            let gates = class.gate.map(|slot| views.get(slot));
            let up = folded(b, gates, self.scale);
            let branch = aligned(a, &up);
            if let Some(group) = &class.fused_qkv {
                let [a, up] = branch.as_ref().map_or([a, &up], |[a, up]| [a, up]);
                group.join(a, up, &mut adapters.fused_qkv);
            }
            if let Some(branch) = branch {
                let [a, up] = branch.map(|x| class.by_module(&x));
                adapters.branches.resize_with(self.module_count, || None);
                for (&module, (a, up)) in class.modules.iter().zip(a.into_iter().zip(up)) {
                    adapters.branches[module] = Some([a, up]);
                }
            }
            let mut gates = gates.map(|gates| gates.unbind(-2).into_iter());
            let parts = class.by_module(a).into_iter().zip(b.unbind(-3)).zip(class.by_module(&up));
            for (&module, ((a, b), up)) in class.modules.iter().zip(parts) {
                let gate = gates.as_mut().and_then(Iterator::next);
                adapters.modules[module] = Some(LoraLayer { a, b, gate, scale: self.scale, up });
            }
        }
        adapters
    }

    /// Values of A and B at all modules: `r * sum(d_in + d_out)`.
    pub fn factor_count(&self) -> i64 {
        self.classes.iter().map(|c| c.modules.len() as i64 * self.r * (c.d_in + c.d_out)).sum()
    }

    /// Number of rank-one components at the start.
    pub fn component_count(&self) -> i64 {
        self.module_count as i64 * self.r
    }
}
