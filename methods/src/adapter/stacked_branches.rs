//! Branches of runs that differ in method, rank or scaling, side by side.

use std::cell::OnceCell;

use encoders::{Attach, LowRank, TargetModule};
use tch::Tensor;

/// Low-rank branches of several stacks of runs as those of one stack, in the order of the stacks. Components of zero fill the
/// ranks up to the widest: they add nothing, and their gradient is cut off. Branches are joined when they are first asked for.
pub struct StackedBranches {
    stacks: Vec<Box<dyn Attach>>,
    /// By position in the encoder's list of modules.
    modules: Vec<OnceCell<Option<Branch>>>,
    /// Branches of a layer's query, key and value as one, by layer.
    fused_qkv: Vec<OnceCell<Option<Branch>>>,
}

/// `[runs, r, d_in]`, `[runs, d_out, r]` and, for DoRA, `[runs, d_out]`.
struct Branch {
    a: Tensor,
    up: Tensor,
    magnitude: Option<Tensor>,
    dropout: f64,
}

impl StackedBranches {
    /// Those of `stacks`, every tensor of which has a first dimension of runs, at `modules`. The stacks have branches at the
    /// same modules, and drop as much of their inputs.
    pub fn new(stacks: Vec<Box<dyn Attach>>, modules: &[TargetModule]) -> Self {
        let cells = |last: Option<usize>| (0..last.map_or(0, |last| last + 1)).map(|_| OnceCell::new()).collect();
        StackedBranches {
            stacks,
            modules: cells(modules.iter().map(|module| module.index).max()),
            fused_qkv: cells(modules.iter().map(|module| module.layer).max()),
        }
    }

    fn joined<'a>(
        &'a self,
        cell: Option<&'a OnceCell<Option<Branch>>>,
        of: impl Fn(&'a dyn Attach) -> Option<LowRank<'a>>,
    ) -> Option<LowRank<'a>> {
        let branches = || self.stacks.iter().map(|stack| of(stack.as_ref())).collect::<Option<Vec<_>>>();
        let branch = cell?.get_or_init(|| branches().map(|branches| Branch::concat(&branches))).as_ref()?;
        let (magnitude, dropout) = (branch.magnitude.as_ref(), branch.dropout);
        Some(LowRank { magnitude, dropout, ..LowRank::new(&branch.a, &branch.up) })
    }
}

impl Branch {
    fn concat(branches: &[LowRank]) -> Self {
        let rank = |branch: &LowRank| branch.lora_a.size()[1];
        let widest = branches.iter().map(rank).max().unwrap_or(0);
        let padded = |branch: &LowRank| {
            let missing = widest - rank(branch);
            let pad = |x: &Tensor, pad: &[i64]| if missing == 0 { x.shallow_clone() } else { x.constant_pad_nd(pad) };
            (pad(branch.lora_a, &[0, 0, 0, missing]), pad(branch.scaled_b, &[0, missing]))
        };
        let (a, up): (Vec<Tensor>, Vec<Tensor>) = branches.iter().map(padded).unzip();
        let magnitudes: Option<Vec<&Tensor>> = branches.iter().map(|branch| branch.magnitude).collect();
        let magnitude = magnitudes.map(|all| Tensor::cat(&all, 0));
        let dropout = branches.first().map_or(0.0, |branch| branch.dropout);
        Branch { a: Tensor::cat(&a, 0), up: Tensor::cat(&up, 0), magnitude, dropout }
    }
}

impl Attach for StackedBranches {
    fn low_rank(&self, module: &TargetModule) -> Option<LowRank<'_>> {
        let module = module.clone();
        self.joined(self.modules.get(module.index), move |stack| stack.low_rank(&module))
    }

    fn fused_qkv(&self, modules: &[TargetModule]) -> Option<LowRank<'_>> {
        let layer = modules.first()?.layer;
        self.joined(self.fused_qkv.get(layer), move |stack| stack.fused_qkv(modules))
    }
}
