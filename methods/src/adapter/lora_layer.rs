//! One adapted linear. LoRA, AdaLoRA and SoRA all add `scale * B diag(gate) A` (spec §1.1, §2.1, §3.1): LoRA has no gate,
//! AdaLoRA's gate is Λ, SoRA's is g. DoRA has a magnitude besides (spec §7.1). One type serves them all (docs/adr/0004).

use std::collections::BTreeMap;

use encoders::nn::modules::row_norms;
use encoders::{Attach, LowRank, TargetModule};
use tch::{Device, Kind, Tensor};

use crate::adapter::bias::Bias;

/// `x -> scale * B (gate ⊙ (A x))` at one module.
pub struct LoraLayer {
    /// `[r, d_in]`.
    pub a: Tensor,
    /// `[d_out, r]`.
    pub b: Tensor,
    /// `[r]`; `None` for LoRA.
    pub gate: Option<Tensor>,
    /// DoRA's m, `[d_out]`.
    pub magnitude: Option<Tensor>,
    /// Components at the end of A and B that are not trained.
    pub fixed: i64,
    /// α/r, or α/(r_init + 1e-5) for AdaLoRA; constant through the run.
    pub scale: f64,
    /// `scale * B diag(gate)`, `[d_out, r]`: folded once, so that the branch is two products and nothing else.
    pub(crate) up: Tensor,
}

/// A plain LoRA pair, with `r` the rank that is left: `ΔW = scale * B A`; with a magnitude DoRA's
/// `W' = m (W + scale * B A) / ||W + scale * B A||`, by row.
#[derive(Debug)]
pub struct LoraWeights {
    /// `[r, d_in]`.
    pub a: Tensor,
    /// `[d_out, r]`.
    pub b: Tensor,
    /// Scale of the product.
    pub scale: f64,
    /// `[d_out]`.
    pub magnitude: Option<Tensor>,
}

impl LoraLayer {
    /// An adapter of its own, outside a group.
    pub fn new(a: Tensor, b: Tensor, gate: Option<Tensor>, scale: f64) -> Self {
        let up = folded(&b, gate.as_ref(), scale);
        LoraLayer { a, b, gate, magnitude: None, fixed: 0, scale, up }
    }

    /// The branch's output `[..., d_out]` for `x` `[..., d_in]`.
    pub fn branch(&self, x: &Tensor) -> Tensor {
        x.linear::<&Tensor>(&self.a, None).linear::<&Tensor>(&self.up, None)
    }

    /// The branch's `ΔW`, `[d_out, d_in]`, without the magnitude.
    pub fn delta(&self) -> Tensor {
        self.up.matmul(&self.a)
    }

    /// Trained components with a non-zero gate; all trained ones without a gate.
    pub fn rank(&self) -> i64 {
        match &self.gate {
            Some(gate) => gate.ne(0.0).sum(Kind::Int64).int64_value(&[]),
            None => self.max_rank(),
        }
    }

    /// Trained components.
    pub fn max_rank(&self) -> i64 {
        self.a.size()[0] - self.fixed
    }

    /// The same map as a plain LoRA pair: zero components dropped, the gate folded into A, the scale unchanged
    /// (spec §3.7). Rank 0 gives empty factors.
    pub fn to_lora(&self) -> LoraWeights {
        tch::no_grad(|| {
            let (a, b) = (self.a.detach(), self.b.detach());
            let magnitude = self.magnitude.as_ref().map(|magnitude| magnitude.detach().copy());
            let Some(gate) = self.gate.as_ref().map(Tensor::detach) else {
                return LoraWeights { a: a.copy(), b: b.copy(), scale: self.scale, magnitude };
            };
            let kept = gate.ne(0.0).nonzero().squeeze_dim(1);
            let a = gate.index_select(0, &kept).unsqueeze(1) * a.index_select(0, &kept);
            LoraWeights { a, b: b.index_select(1, &kept), scale: self.scale, magnitude }
        })
    }
}

impl LoraWeights {
    /// One component of zeros.
    pub(crate) fn zeros(module: &TargetModule) -> Self {
        let zeros = |shape: [i64; 2]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        LoraWeights { a: zeros([1, module.d_in]), b: zeros([module.d_out, 1]), scale: 1.0, magnitude: None }
    }

    /// The same map as a [`LoraLayer`] without a gate.
    pub fn adapter(&self) -> LoraLayer {
        let layer = LoraLayer::new(self.a.shallow_clone(), self.b.shallow_clone(), None, self.scale);
        LoraLayer { magnitude: self.magnitude.as_ref().map(Tensor::shallow_clone), ..layer }
    }

    /// The adapted weight for the frozen one, `[d_out, d_in]`.
    pub fn merged(&self, weight: &Tensor) -> Tensor {
        let here = |tensor: &Tensor| tensor.to_device(weight.device());
        let adapted = weight + here(&self.adapter().delta());
        match &self.magnitude {
            Some(magnitude) => here(magnitude).unsqueeze(1) / row_norms(&adapted).unsqueeze(1) * adapted,
            None => adapted,
        }
    }

    /// The same weights on another device.
    pub fn to_device(&self, device: Device) -> Self {
        LoraWeights {
            a: self.a.to_device(device),
            b: self.b.to_device(device),
            scale: self.scale,
            magnitude: self.magnitude.as_ref().map(|magnitude| magnitude.to_device(device)),
        }
    }

    /// Rank that is left.
    pub fn rank(&self) -> i64 {
        self.a.size()[0]
    }
}

/// The adapters of one step.
pub struct LoraLayers {
    /// By position in the encoder's list of modules; `None`, or nothing at the end, where a method attaches nothing.
    pub modules: Vec<Option<LoraLayer>>,
    /// The same as branches, where they are laid out otherwise; by module.
    pub(crate) branches: Vec<Option<[Tensor; 2]>>,
    /// Branches of a layer's query, key and value as one, by layer.
    pub(crate) fused_qkv: Vec<Option<[Tensor; 2]>>,
    /// Probability that a value of a branch's input is dropped in training.
    pub dropout: f64,
    /// Which biases are trained besides.
    pub bias: Bias,
    /// Tensors in place of the backbone's own, by their position there, with their names.
    pub weights: BTreeMap<usize, (String, Tensor)>,
}

impl LoraLayers {
    /// LoraLayers without a fused query-key-value branch, and without dropout, beside a backbone that is as it was.
    pub fn new(modules: Vec<Option<LoraLayer>>) -> Self {
        LoraLayers {
            modules,
            branches: Vec::new(),
            fused_qkv: Vec::new(),
            dropout: 0.0,
            bias: Bias::None,
            weights: BTreeMap::new(),
        }
    }

    /// Those of `modules` that have an adapter, each with it.
    pub fn attached<'a>(
        &'a self,
        modules: &'a [TargetModule],
    ) -> impl Iterator<Item = (&'a TargetModule, &'a LoraLayer)> {
        modules.iter().filter_map(|module| Some((module, self.modules.get(module.index)?.as_ref()?)))
    }
}

impl Attach for LoraLayers {
    fn low_rank(&self, module: &TargetModule) -> Option<LowRank<'_>> {
        let adapter = self.modules.get(module.index)?.as_ref()?;
        let [a, up] = match self.branches.get(module.index) {
            Some(Some([a, up])) => [a, up],
            _ => [&adapter.a, &adapter.up],
        };
        Some(LowRank { lora_a: a, scaled_b: up, magnitude: adapter.magnitude.as_ref(), dropout: self.dropout })
    }

    fn fused_qkv(&self, modules: &[TargetModule]) -> Option<LowRank<'_>> {
        // What is fused with it are the backbone's own weights and biases.
        let [a, up] = self.fused_qkv.get(modules.first()?.layer)?.as_ref().filter(|_| self.weights.is_empty())?;
        Some(LowRank { dropout: self.dropout, ..LowRank::new(a, up) })
    }

    fn weight(&self, index: usize) -> Option<&Tensor> {
        self.weights.get(&index).map(|(_, weight)| weight)
    }
}

/// `scale * B diag(gate)` for one module or a group of them: B is `[..., d_out, r]`, the gate `[..., r]`.
pub(crate) fn folded(b: &Tensor, gate: Option<&Tensor>, scale: f64) -> Tensor {
    match gate {
        Some(gate) => b * (gate * scale).unsqueeze(-2),
        None => b * scale,
    }
}
