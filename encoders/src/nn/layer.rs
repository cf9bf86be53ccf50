//! The post-norm transformer layer of BERT (Devlin et al. 2019): six linears, each adapted, and two LayerNorms.
//!
//! h = LayerNorm(dropout(W_o attention(x) + b_o) + x), out = LayerNorm(dropout(W_2 GELU(W_1 h + b_1) + b_2) + h)

use std::ops::Range;

use tch::Tensor;
use torch_ext::ops::attention::Attention;
use torch_ext::ops::dropout::Dropout;
use torch_ext::ops::encoder_layer::FusedLayer;
use torch_ext::token_layout::TokenLayout;

use crate::checkpoint::reader::Reader;
use crate::nn::dims::Dims;
use crate::nn::distances::Distances;
use crate::nn::fused_linear::FusedLinear;
use crate::nn::modules::{LayerNorm, Linear};
use crate::pass::Pass;
use crate::pass::streams::{self, InLayer};
use crate::target::{LowRank, ModuleKind, TargetModule};

/// Kinds of a layer's linears, in module order.
const KINDS: [ModuleKind; 6] = [
    ModuleKind::Query,
    ModuleKind::Key,
    ModuleKind::Value,
    ModuleKind::AttentionOutput,
    ModuleKind::Intermediate,
    ModuleKind::Output,
];
/// Number of the first of them that have one input: query, key and value.
const QKV: usize = 3;
/// Linears with one input, which a fused layer takes as one.
const FUSED: [Range<usize>; 4] = [0..QKV, 3..4, 4..5, 5..6];

/// Names of the linears within a layer, in module order.
pub(crate) type ModuleNames = [&'static str; KINDS.len()];

/// BERT's names, which RoBERTa and ELECTRA have, too.
pub(crate) const BERT_MODULES: ModuleNames = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
];

/// Branches of a layer's linears: of query, key and value as one, and of the other three.
pub(crate) type Branches<'a> = [LowRank<'a>; FUSED.len()];

/// One layer.
pub(crate) struct PostNormLayer {
    index: usize,
    modules: Vec<TargetModule>,
    linears: [Linear; KINDS.len()],
    fused: [FusedLinear; FUSED.len()],
    attention_norm: LayerNorm,
    output_norm: LayerNorm,
    heads: i64,
    eps: f64,
    dropout: f64,
    attention_dropout: f64,
}

/// Arguments of a layer beside its hidden states.
pub(crate) struct LayerInput<'a> {
    /// Relative embeddings of the distances, where the layer has any.
    pub distances: Option<Distances>,
    /// Factor of the scores.
    pub scale: f64,
    /// The pass.
    pub pass: Pass<'a>,
}

impl PostNormLayer {
    pub fn read(reader: &Reader, dims: &Dims, prefix: &str, names: &ModuleNames, index: usize) -> Self {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let mut linears = std::array::from_fn(|i| Linear::read(reader, &name(names[i]), dims.widths(KINDS[i]), true));
        let module = |i: usize, linear: &Linear| {
            let [d_in, d_out] = dims.widths(KINDS[i]);
            TargetModule {
                index: index * KINDS.len() + i,
                path: format!("{prefix}{}", name(names[i])),
                kind: KINDS[i],
                layer: index,
                d_in,
                d_out,
                weight: linear.weight.index.unwrap_or_default(),
            }
        };
        let norm = |part: &str| LayerNorm::read(reader, &name(part), dims.hidden, dims.eps, true);
        PostNormLayer {
            index,
            modules: linears.iter().enumerate().map(|(i, linear)| module(i, linear)).collect(),
            fused: FUSED.map(|range| FusedLinear::fuse(reader, &mut linears[range])),
            linears,
            attention_norm: norm("attention.output.LayerNorm"),
            output_norm: norm("output.LayerNorm"),
            heads: dims.heads,
            eps: dims.eps,
            dropout: dims.dropout,
            attention_dropout: dims.attention_dropout,
        }
    }

    /// Its linears, in module order.
    pub fn target_modules(&self) -> &[TargetModule] {
        &self.modules
    }

    /// Branches for [`PostNormLayer::forward_fused`]: `None` unless every linear has one that takes the linear's own
    /// input, and the method changes nothing else.
    pub fn branches<'a>(&self, pass: Pass<'a>) -> Option<Branches<'a>> {
        let of_linears = self.linears.iter().flat_map(|linear| [&linear.weight, &linear.bias]);
        let norms = [&self.attention_norm, &self.output_norm];
        let mut weights = of_linears.chain(norms.into_iter().flat_map(|norm| [&norm.weight, &norm.bias]));
        if weights.any(|weight| weight.index.is_some_and(|index| pass.attach.weight(index).is_some())) {
            return None;
        }
        let branch = |module: usize| pass.attach.low_rank(&self.modules[module]);
        let branches = [pass.attach.fused_qkv(&self.modules[..QKV])?, branch(3)?, branch(4)?, branch(5)?];
        branches.iter().all(|branch| branch.magnitude.is_none() && !pass.drops(branch)).then_some(branches)
    }

    /// Dropout of the attention weights, of attention's output, and of the layer's output.
    fn dropouts<'a>(&self, pass: Pass<'a>) -> [Dropout<'a>; 3] {
        let of = |stream, p| pass.dropout(streams::of_layer(self.index, stream), p);
        [
            of(InLayer::AttentionWeights, self.attention_dropout),
            of(InLayer::AttentionOutput, self.dropout),
            of(InLayer::Output, self.dropout),
        ]
    }

    /// The layer as one function of `x` `[tokens, hidden]`. Requires [`torch_ext::ops::encoder_layer::supports`].
    pub fn forward_fused(&self, x: &Tensor, input: &LayerInput, branches: &Branches, layout: &TokenLayout) -> Tensor {
        let norms = [&self.attention_norm, &self.output_norm];
        let distances = input.distances.as_ref().map(Distances::embeddings);
        let layer = FusedLayer {
            x,
            distances: distances.as_ref(),
            layout,
            linears: std::array::from_fn(|i| self.fused[i].augmented(branches[i])),
            norms: norms.map(|norm| [&norm.weight.tensor, &norm.bias.tensor]),
            eps: self.eps,
            heads: self.heads,
            scale: input.scale,
            dropouts: self.dropouts(input.pass),
        };
        layer.forward()
    }

    /// The layer operation by operation, of `x` `[rows * length, hidden]`. The mask `[rows, 1, 1, length]` is added to
    /// the scores.
    pub fn forward(&self, x: &Tensor, input: &LayerInput, mask: &Tensor) -> Tensor {
        let pass = input.pass;
        let [of_weights, of_attention, of_output] = self.dropouts(pass);
        let length = mask.size()[3];
        let adapted = |i: usize, x: &Tensor| {
            self.linears[i].adapted(&self.modules[i], x, pass, |dropout| dropout.hidden(x, length, 0))
        };
        let attention = Attention {
            projected: &self.projected(x, input, length),
            has_positions: input.distances.is_some(),
            mask,
            heads: self.heads,
            scale: input.scale,
            dropout: of_weights,
        };
        let attended = self.attention_norm.after(&adapted(3, &attention.context()), x, of_attention, length, pass);
        let inner = adapted(4, &attended).gelu("none");
        self.output_norm.after(&adapted(5, &inner), &attended, of_output, length, pass)
    }

    /// Query, key and value of `x`, and of each run's distances behind its tokens, side by side: `[.., 3 hidden]`.
    fn projected(&self, x: &Tensor, input: &LayerInput, length: i64) -> Tensor {
        let pass = input.pass;
        let behind = |x: Tensor, distances: Option<Tensor>| {
            let Some(distances) = distances else { return x };
            let of_runs = |x: &Tensor| x.view([pass.runs(), -1, x.size()[1]]);
            Tensor::cat(&[of_runs(&x), of_runs(&distances)], 1).flatten(0, 1)
        };
        let distances = input.distances.as_ref();
        let all = behind(x.shallow_clone(), distances.map(Distances::embeddings));
        let modules = &self.modules[..QKV];
        if let Some(branch) = pass.attach.fused_qkv(modules).filter(|branch| !pass.drops(branch)) {
            return self.fused[0].adapted(&all, branch);
        }
        let dropped = |dropout: Dropout| {
            let of_distances = Dropout { stream: dropout.stream + streams::DISTANCES, ..dropout };
            behind(dropout.hidden(x, length, 0), distances.map(|distances| distances.dropped(of_distances)))
        };
        let parts = self.linears.iter().zip(modules);
        let parts = parts.map(|(linear, module)| linear.adapted(module, &all, pass, dropped));
        Tensor::cat(&parts.collect::<Vec<_>>(), -1)
    }
}
