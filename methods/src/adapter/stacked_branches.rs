//! Branches of runs that share their passes, side by side: runs may differ in method, rank and scaling.

use std::cell::OnceCell;

use encoders::{Attach, LowRank, TargetModule};
use tch::Tensor;

use crate::adapter::module_groups::{GroupFactors, ModuleGroups, aligned_rank, modules_of};
use crate::adapter::qkv::QKV;
use crate::optim::params::ParamViews;

/// Low-rank branches of several stacks of runs as those of one stack, in the order of the stacks. Components of zero fill the
/// ranks up to the widest: they add nothing, and get no gradient. Modules of one shape are joined together, and lie in memory as a
/// fused layer reads them: whatever is done module by module is a kernel each.
pub struct StackedBranches {
    shapes: Vec<ShapeStack>,
    /// Shape of a module and its position among those of the shape, by position in the encoder's list of modules.
    places: Vec<Option<(usize, usize)>>,
    dropout: f64,
}

/// Modules of one shape, which repeat from period to period.
struct ShapeStack {
    /// A `[periods, count, runs * rank, d_in]` and U `[periods, count, d_out, runs * rank]` by part of the period.
    parts: Vec<[Tensor; 2]>,
    /// DoRA's m `[runs, d_out]`, by module.
    magnitudes: Option<Vec<Tensor>>,
    runs: i64,
    /// The rank of every run.
    rank: i64,
    /// Modules of a period.
    period: usize,
    /// Whether the first part is query, key and value; every other part is one module.
    has_qkv: bool,
    /// Branches of the modules, by part, module of the part, and period.
    modules: Vec<OnceCell<Vec<Vec<Branch>>>>,
    /// Branches of query, key and value as one, by period.
    fused_qkv: OnceCell<Vec<Branch>>,
}

/// A `[runs, r, d_in]` and U `[runs, d_out, r]`.
struct Branch {
    a: Tensor,
    up: Tensor,
}

impl StackedBranches {
    /// Those of `stacks`, each with the parameters of its runs ([`ParamViews::stack`]). The stacks have branches at the same modules,
    /// and drop as much of their inputs.
    pub fn new(stacks: &[(&ModuleGroups, &ParamViews)]) -> Self {
        let Some((groups, _)) = stacks.first() else {
            return StackedBranches { shapes: Vec::new(), places: Vec::new(), dropout: 0.0 };
        };
        let of_shape = |shape: usize| {
            let factors: Vec<GroupFactors> =
                stacks.iter().map(|(groups, views)| groups.factors(shape, views)).collect();
            let group = &groups.by_shape[shape];
            ShapeStack::new(&factors, group.period(), group.has_qkv())
        };
        let mut places = Vec::new();
        for (shape, group) in groups.by_shape.iter().enumerate() {
            for (position, &module) in group.modules.iter().enumerate() {
                places.resize(places.len().max(module + 1), None);
                places[module] = Some((shape, position));
            }
        }
        let shapes = (0..groups.by_shape.len()).map(of_shape).collect();
        StackedBranches { shapes, places, dropout: groups.dropout() }
    }

    /// The shape of a module, and its place there.
    fn place(&self, module: &TargetModule) -> Option<(&ShapeStack, usize)> {
        let (shape, position) = (*self.places.get(module.index)?)?;
        Some((&self.shapes[shape], position))
    }

    fn low_rank_of<'a>(&self, branch: &'a Branch) -> LowRank<'a> {
        LowRank { dropout: self.dropout, ..LowRank::new(&branch.a, &branch.up) }
    }
}

impl ShapeStack {
    fn new(stacks: &[GroupFactors], period: usize, has_qkv: bool) -> Self {
        let rank = stacks.iter().map(|stack| aligned_rank(&stack.up)).max().unwrap_or(0);
        let zero = Tensor::zeros([1], (stacks[0].a.kind(), stacks[0].a.device()));
        let join = |of: fn(&GroupFactors) -> &Tensor, dim: i64| {
            let runs = stacks.iter().flat_map(|stack| of(stack).unflatten(1, [-1, period as i64]).unbind(0));
            parts_of(joined(runs, rank, dim, &zero), has_qkv)
        };
        let parts = join(|stack| &stack.a, -2).into_iter().zip(join(|stack| &stack.up, -1));
        let parts: Vec<[Tensor; 2]> = parts.map(|(a, up)| [a, up]).collect();
        let magnitudes: Option<Vec<&Tensor>> = stacks.iter().map(|stack| stack.magnitude.as_ref()).collect();
        ShapeStack {
            magnitudes: magnitudes.map(|all| Tensor::cat(&all, 0).unbind(1)),
            runs: stacks.iter().map(|stack| stack.a.size()[0]).sum(),
            rank,
            period,
            has_qkv,
            modules: parts.iter().map(|_| OnceCell::new()).collect(),
            parts,
            fused_qkv: OnceCell::new(),
        }
    }

    /// Branch of a module by itself.
    fn branch(&self, position: usize) -> Option<&Branch> {
        let (place, period) = (position % self.period, position / self.period);
        let fused = if self.has_qkv { QKV as usize } else { 1 };
        let (part, module) = if place < fused { (0, place) } else { (place + 1 - fused, 0) };
        self.modules[part].get_or_init(|| self.branches_in(part)).get(module)?.get(period)
    }

    /// Branch of the query, key and value that begin at a position.
    fn fused_branch(&self, position: usize) -> Option<&Branch> {
        let is_fused = self.has_qkv && self.magnitudes.is_none();
        is_fused.then(|| self.fused_qkv.get_or_init(|| self.fused_branches()).get(position / self.period))?
    }

    fn branches_in(&self, part: usize) -> Vec<Vec<Branch>> {
        let [a, up] = self.parts[part].each_ref().map(|x| modules_of(x).into_iter());
        a.zip(up).map(|(a, up)| self.branches_of(&a, &up)).collect()
    }

    /// A one below the other, U in blocks.
    fn fused_branches(&self) -> Vec<Branch> {
        let [a, up] = &self.parts[0];
        let a = a.unflatten(2, [-1, self.rank]).transpose(1, 2).flatten(1, 3);
        let eye = Tensor::eye(QKV, (up.kind(), up.device())).view([QKV, 1, 1, QKV, 1]);
        let up = (up.unflatten(3, [-1, self.rank]).unsqueeze(4) * eye).flatten(3, 5).flatten(1, 2);
        self.branches_of(&a, &up)
    }

    /// Branches of `[periods, runs * r, d_in]` and `[periods, d_out, runs * r]`, by period.
    fn branches_of(&self, a: &Tensor, up: &Tensor) -> Vec<Branch> {
        let of_period = |(a, up): (Tensor, Tensor)| Branch {
            a: a.unflatten(0, [self.runs, -1]),
            up: up.unflatten(1, [self.runs, -1]).transpose(0, 1),
        };
        a.unbind(0).into_iter().zip(up.unbind(0)).map(of_period).collect()
    }
}

/// Parts of the period in `[periods, modules, ..]`: query, key and value in one, others alone.
fn parts_of(x: Tensor, has_qkv: bool) -> Vec<Tensor> {
    let fused = if has_qkv { QKV } else { 1 };
    let others = x.size()[1] - fused;
    // The gradient of a part that is the whole would be a copy.
    if others == 0 { vec![x] } else { x.split_with_sizes([&[fused][..], &vec![1; others as usize]].concat(), 1) }
}

/// Runs' factors side by side in `dim`, that of their ranks, each filled up to `rank` with a zero, `[1]`: one concatenation.
fn joined(runs: impl Iterator<Item = Tensor>, rank: i64, dim: i64, zero: &Tensor) -> Tensor {
    let with_zeros = |run: Tensor| {
        let mut size = run.size();
        let at = (run.dim() as i64 + dim) as usize;
        size[at] = rank - size[at];
        let zeros = (size[at] > 0).then(|| zero.expand(&size, false));
        std::iter::once(run).chain(zeros)
    };
    Tensor::cat(&runs.flat_map(with_zeros).collect::<Vec<_>>(), dim)
}

impl Attach for StackedBranches {
    fn low_rank(&self, module: &TargetModule) -> Option<LowRank<'_>> {
        let (shape, position) = self.place(module)?;
        let magnitude = shape.magnitudes.as_ref().map(|magnitudes| &magnitudes[position]);
        Some(LowRank { magnitude, ..self.low_rank_of(shape.branch(position)?) })
    }

    fn fused_qkv(&self, modules: &[TargetModule]) -> Option<LowRank<'_>> {
        let (shape, position) = self.place(modules.first()?)?;
        Some(self.low_rank_of(shape.fused_branch(position)?))
    }
}
