//! Query, key and value of a layer as one branch.

use encoders::{ModuleKind, TargetModule};
use tch::Tensor;

/// How the modules of a group repeat from layer to layer, where each layer begins with query, key and value.
pub(crate) struct QkvGroup {
    /// The layers, ascending.
    layers: Vec<usize>,
    /// Modules of the group in a layer.
    pub period: i64,
}

/// Query, key and value.
pub(crate) const QKV: i64 = 3;

impl QkvGroup {
    /// `None` where the modules do not repeat like that.
    pub fn of(modules: &[&TargetModule]) -> Option<Self> {
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

    /// Every layer's modules in front: `[.., layers, period, x, y]` of a group's `[.., k, x, y]`, in two parts: the fused ones
    /// and the others.
    pub fn split(&self, x: &Tensor) -> [Tensor; 2] {
        let by_layer = x.unflatten(-3, [self.layers.len() as i64, self.period]);
        let mut parts = by_layer.split_with_sizes([QKV, self.period - QKV], -3).into_iter();
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }

    /// A `[.., k, r, d_in]` and U `[.., k, d_out, r]` of a group as one branch a layer.
    pub fn fuse(&self, a: &Tensor, up: &Tensor, fused_qkv: &mut Vec<Option<[Tensor; 2]>>) {
        let [a, up] = [a, up].map(|x| self.split(x)[0].shallow_clone());
        let eye = Tensor::eye(QKV, (up.kind(), up.device())).view([QKV, 1, QKV, 1]);
        let up = (up.unsqueeze(-2) * eye).flatten(-2, -1).flatten(-3, -2);
        for ((&layer, a), up) in self.layers.iter().zip(a.flatten(-3, -2).unbind(-3)).zip(up.unbind(-3)) {
            fused_qkv.resize_with(fused_qkv.len().max(layer + 1), || None);
            fused_qkv[layer] = Some([a, up]);
        }
    }
}
