//! Branches of runs that differ in method, rank or scaling, side by side.

use encoders::{Attach, LowRank, ModuleKind, TargetModule};
use tch::Tensor;

/// Low-rank branches of several stacks of runs as those of one stack, in the order of the stacks. Components of zero fill the
/// ranks up to the widest: they add nothing, and their gradient is cut off.
pub struct StackedBranches {
    /// By position in the encoder's list of modules.
    modules: Vec<Option<Branch>>,
    /// Branches of a layer's query, key and value as one, by layer.
    fused_qkv: Vec<Option<Branch>>,
    /// The same in every stack.
    dropout: f64,
}

/// `[runs, r, d_in]`, `[runs, d_out, r]` and, for DoRA, `[runs, d_out]`.
struct Branch {
    a: Tensor,
    up: Tensor,
    magnitude: Option<Tensor>,
}

impl StackedBranches {
    /// Those of `stacks`, every tensor of which has a first dimension of runs, at `modules`. The stacks have branches at the
    /// same modules, and drop as much of their inputs.
    pub fn new(stacks: &[Box<dyn Attach>], modules: &[TargetModule]) -> Self {
        let mut stacked = StackedBranches { modules: Vec::new(), fused_qkv: Vec::new(), dropout: 0.0 };
        for module in modules {
            let branches: Option<Vec<LowRank>> = stacks.iter().map(|stack| stack.low_rank(module)).collect();
            stacked.dropout = branches.iter().flatten().next().map_or(stacked.dropout, |branch| branch.dropout);
            place(&mut stacked.modules, module.index, branches.map(|branches| Branch::concat(&branches)));
        }
        for qkv in modules.windows(QKV.len()).filter(|qkv| qkv.iter().map(|module| module.kind).eq(QKV)) {
            let branches: Option<Vec<LowRank>> = stacks.iter().map(|stack| stack.fused_qkv(qkv)).collect();
            place(&mut stacked.fused_qkv, qkv[0].layer, branches.map(|branches| Branch::concat(&branches)));
        }
        stacked
    }

    fn low_rank<'a>(&self, branch: &'a Branch) -> LowRank<'a> {
        let magnitude = branch.magnitude.as_ref();
        LowRank { magnitude, dropout: self.dropout, ..LowRank::new(&branch.a, &branch.up) }
    }
}

const QKV: [ModuleKind; 3] = [ModuleKind::Query, ModuleKind::Key, ModuleKind::Value];

fn place<T>(places: &mut Vec<Option<T>>, at: usize, value: Option<T>) {
    places.resize_with(places.len().max(at + 1), || None);
    places[at] = value;
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
        Branch { a: Tensor::cat(&a, 0), up: Tensor::cat(&up, 0), magnitude: magnitudes.map(|all| Tensor::cat(&all, 0)) }
    }
}

impl Attach for StackedBranches {
    fn low_rank(&self, module: &TargetModule) -> Option<LowRank<'_>> {
        Some(self.low_rank(self.modules.get(module.index)?.as_ref()?))
    }

    fn fused_qkv(&self, modules: &[TargetModule]) -> Option<LowRank<'_>> {
        Some(self.low_rank(self.fused_qkv.get(modules.first()?.layer)?.as_ref()?))
    }
}
