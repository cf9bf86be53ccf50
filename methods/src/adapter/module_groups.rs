//! Sites of equal shape are stacked, so that whatever a method does for every site is a few batched operations.

use encoders::{Site, SiteKind};
use tch::{Kind, Tensor};

use crate::adapter::lora_layer::{Adapter, Adapters, folded};
use crate::optim::params::{Builder, GroupKind, Slot, Views};

/// Start values of one site's adapter.
pub struct SiteInit {
    /// `[r, d_in]`.
    pub a: Tensor,
    /// `[d_out, r]`.
    pub b: Tensor,
    /// `[r]`, where the method has one.
    pub gate: Option<Tensor>,
}

/// Sites of one shape `(d_in, d_out)`.
pub struct ShapeClass {
    /// Positions in the list of sites, ascending.
    pub sites: Vec<usize>,
    /// `[k, r, d_in]`.
    pub a: Slot,
    /// `[k, d_out, r]`.
    pub b: Slot,
    /// `[k, r]`, where the method has one.
    pub gate: Option<Slot>,
    /// Input width.
    pub d_in: i64,
    /// Output width.
    pub d_out: i64,
    fused_qkv: Option<QkvGroup>,
}

/// How the sites of a class repeat from layer to layer, where each layer begins with query, key and value.
struct QkvGroup {
    /// The layers, ascending.
    layers: Vec<usize>,
    /// Sites of the class in a layer.
    period: i64,
}

/// Query, key and value.
const JOINED: i64 = 3;

impl QkvGroup {
    /// `None` where the sites do not repeat like that.
    fn of(sites: &[&Site]) -> Option<Self> {
        let layers: Vec<usize> = sites.iter().filter(|s| s.kind == SiteKind::Query).map(|s| s.layer).collect();
        let period = sites.len().checked_div(layers.len()).filter(|period| period * layers.len() == sites.len())?;
        let begins = |(chunk, layer): (&[&Site], &usize)| {
            let kinds = chunk.iter().map(|site| site.kind);
            let begins = kinds.take(3).eq([SiteKind::Query, SiteKind::Key, SiteKind::Value]);
            begins && chunk.iter().all(|site| site.layer == *layer)
        };
        let repeats = sites.chunks(period).zip(&layers).all(begins);
        repeats.then_some(QkvGroup { layers, period: period as i64 })
    }

    /// Every layer's sites in front: `[.., layers, period, x, y]` of a class's `[.., k, x, y]`, in two parts: the fused ones
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

impl ShapeClass {
    /// `[.., x, y]` of each site for `[.., k, x, y]` of the class. What is fused is a part of its own, so that the gradient
    /// of the others says nothing about it.
    fn by_site(&self, x: &Tensor) -> Vec<Tensor> {
        let Some(group) = &self.fused_qkv else { return x.unbind(-3) };
        let [first, others] = group.split(x).map(|part| part.unbind(-4));
        let of_layer = |(first, others): (Tensor, Tensor)| first.unbind(-3).into_iter().chain(sites_of(&others));
        first.into_iter().zip(others).flat_map(of_layer).collect()
    }
}

/// `[.., x, y]` of each of `[.., n, x, y]`: for one, a view whose gradient is not copied.
fn sites_of(x: &Tensor) -> Vec<Tensor> {
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

/// The low-rank parameters of every site, stacked by shape.
pub struct Stacks {
    /// One entry a shape, in the order of first appearance.
    pub classes: Vec<ShapeClass>,
    /// Rank at the start, the same at every site.
    pub r: i64,
    scale: f64,
    site_count: usize,
}

impl Stacks {
    /// Draws the start values site by site (the order of the random numbers is the order of the modules, spec §6), then
    /// lays them out by shape. A and B are decayed; gates go to `gate_group`.
    pub fn build(
        params: &mut Builder,
        sites: &[Site],
        r: i64,
        scale: f64,
        gate_group: GroupKind,
        mut init: impl FnMut(&Site) -> SiteInit,
    ) -> Self {
        let inits: Vec<SiteInit> = sites.iter().map(&mut init).collect();
        let mut classes: Vec<ShapeClass> = Vec::new();
        let mut shapes: Vec<(i64, i64)> = Vec::new();
        for site in sites {
            if !shapes.contains(&(site.d_in, site.d_out)) {
                shapes.push((site.d_in, site.d_out));
            }
        }
        for (d_in, d_out) in shapes {
            let members: Vec<usize> =
                (0..sites.len()).filter(|&i| (sites[i].d_in, sites[i].d_out) == (d_in, d_out)).collect();
            let stack = |part: &dyn Fn(&SiteInit) -> Tensor| {
                Tensor::stack(&members.iter().map(|&i| part(&inits[i])).collect::<Vec<_>>(), 0)
            };
            let name = |letter: &str| format!("{d_in}x{d_out}.lora_{letter}");
            let a = params.add(GroupKind::Decayed, name("A"), &stack(&|s| s.a.shallow_clone()));
            let b = params.add(GroupKind::Decayed, name("B"), &stack(&|s| s.b.shallow_clone()));
            let gates: Option<Vec<Tensor>> =
                members.iter().map(|&i| inits[i].gate.as_ref().map(Tensor::shallow_clone)).collect();
            let gate = gates.map(|gates| params.add(gate_group, name("E"), &Tensor::stack(&gates, 0)));
            let fused_qkv = QkvGroup::of(&members.iter().map(|&i| &sites[i]).collect::<Vec<_>>());
            classes.push(ShapeClass { sites: members, a, b, gate, d_in, d_out, fused_qkv });
        }
        Stacks { classes, r, scale, site_count: sites.len() }
    }

    /// The adapters of one step; for [`Views::together`], those of every run, stacked.
    pub fn adapters(&self, views: &Views) -> Adapters {
        let mut adapters = Adapters::new((0..self.site_count).map(|_| None).collect());
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
                let [a, up] = branch.map(|x| class.by_site(&x));
                adapters.branches.resize_with(self.site_count, || None);
                for (&site, (a, up)) in class.sites.iter().zip(a.into_iter().zip(up)) {
                    adapters.branches[site] = Some([a, up]);
                }
            }
            let mut gates = gates.map(|gates| gates.unbind(-2).into_iter());
            let parts = class.by_site(a).into_iter().zip(b.unbind(-3)).zip(class.by_site(&up));
            for (&site, ((a, b), up)) in class.sites.iter().zip(parts) {
                let gate = gates.as_mut().and_then(Iterator::next);
                adapters.sites[site] = Some(Adapter { a, b, gate, scale: self.scale, up });
            }
        }
        adapters
    }

    /// Values of A and B at all sites: `r * sum(d_in + d_out)`.
    pub fn factor_count(&self) -> i64 {
        self.classes.iter().map(|c| c.sites.len() as i64 * self.r * (c.d_in + c.d_out)).sum()
    }

    /// Number of rank-one components at the start.
    pub fn component_count(&self) -> i64 {
        self.site_count as i64 * self.r
    }
}
