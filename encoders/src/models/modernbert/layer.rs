//! The pre-norm layer of ModernBERT: four linears, each adapted.
//!
//! h = x + dropout(W_o attention(norm(x))), out = h + W_o' dropout(GELU(u) g) with u | g = W_i norm(h)
//!
//! It runs operation by operation, on a GPU too: the fused layers are those of post-norm encoders.

use tch::Tensor;
use torch_ext::ops::dropout::Dropout;

use crate::checkpoint::reader::Reader;
use crate::models::modernbert::options::{Options, Span};
use crate::models::modernbert::positions::{Rotary, Tables, rotated};
use crate::nn::modules::{LayerNorm, Linear};
use crate::pass::Pass;
use crate::pass::streams::{self, InLayer};
use crate::target::{ModuleKind, TargetModule};

/// Kind and name of a layer's linears, in module order.
const MODULES: [(ModuleKind, &str); 4] = [
    (ModuleKind::Qkv, "attn.Wqkv"),
    (ModuleKind::AttentionOutput, "attn.Wo"),
    (ModuleKind::Intermediate, "mlp.Wi"),
    (ModuleKind::Output, "mlp.Wo"),
];

/// One layer.
pub(crate) struct Layer {
    index: usize,
    span: Span,
    modules: [TargetModule; MODULES.len()],
    linears: [Linear; MODULES.len()],
    /// `None` in the first layer, whose input is normalised.
    attention_norm: Option<LayerNorm>,
    mlp_norm: LayerNorm,
    heads: i64,
    attention_dropout: f64,
    mlp_dropout: f64,
}

/// Arguments of a layer beside its hidden states.
#[derive(Clone, Copy)]
pub(crate) struct LayerInput<'a> {
    pub tables: &'a Tables,
    /// Masks of global and of local layers.
    pub masks: &'a [Tensor; 2],
    pub length: i64,
    pub pass: Pass<'a>,
}

impl Layer {
    pub fn read(reader: &Reader, options: &Options, prefix: &str, index: usize, span: Span) -> Self {
        let name = |part: &str| format!("layers.{index}.{part}");
        let norm = |part: &str| LayerNorm::read(reader, &name(part), options.hidden, options.eps, options.norm_bias);
        let attention_norm = (index > 0).then(|| norm("attn_norm"));
        let linears = MODULES.map(|(kind, part)| {
            let has_bias = match kind {
                ModuleKind::Qkv | ModuleKind::AttentionOutput => options.attention_bias,
                _ => options.mlp_bias,
            };
            Linear::read(reader, &name(part), widths(options, kind), has_bias)
        });
        let module = |i: usize| {
            let (kind, part) = MODULES[i];
            let [d_in, d_out] = widths(options, kind);
            let weight = linears[i].weight.index.unwrap_or_default();
            let path = format!("{prefix}{}", name(part));
            TargetModule { index: index * MODULES.len() + i, path, kind, layer: index, d_in, d_out, weight }
        };
        Layer {
            index,
            span,
            modules: std::array::from_fn(module),
            linears,
            attention_norm,
            mlp_norm: norm("mlp_norm"),
            heads: options.heads,
            attention_dropout: options.attention_dropout,
            mlp_dropout: options.mlp_dropout,
        }
    }

    /// Its linears, in module order.
    pub fn target_modules(&self) -> &[TargetModule] {
        &self.modules
    }

    /// The layer of `x` `[rows * length, hidden]`.
    pub fn forward(&self, x: &Tensor, input: LayerInput) -> Tensor {
        let LayerInput { length, pass, .. } = input;
        let adapted = |i: usize, x: &Tensor| {
            self.linears[i].adapted(&self.modules[i], x, pass, |dropout| dropout.hidden(x, length, 0))
        };
        let dropout = |stream: InLayer, p: f64| pass.dropout(streams::of_layer(self.index, stream), p);
        let normed = self.attention_norm.as_ref().map_or(x.shallow_clone(), |norm| norm.forward(x, pass));
        let attention = Attention {
            rotary: input.tables.rotary(self.span),
            mask: &input.masks[self.span as usize],
            heads: self.heads,
            length,
            dropout: dropout(InLayer::AttentionWeights, self.attention_dropout),
        };
        let attended = adapted(1, &attention.context(&adapted(0, &normed)));
        let h = dropout(InLayer::AttentionOutput, self.attention_dropout).hidden(&attended, length, 0) + x;
        let parts = adapted(2, &self.mlp_norm.forward(&h, pass)).chunk(2, -1);
        let gated = parts[0].gelu("none") * &parts[1];
        adapted(3, &dropout(InLayer::Output, self.mlp_dropout).hidden(&gated, length, 0)) + h
    }
}

/// Input and output width of a linear.
fn widths(options: &Options, kind: ModuleKind) -> [i64; 2] {
    match kind {
        ModuleKind::Qkv => [options.hidden, 3 * options.hidden],
        ModuleKind::Intermediate => [options.hidden, 2 * options.intermediate],
        ModuleKind::Output => [options.intermediate, options.hidden],
        _ => [options.hidden, options.hidden],
    }
}

/// Self-attention with rotary positions.
struct Attention<'a> {
    rotary: &'a Rotary,
    /// Added to the scores.
    mask: &'a Tensor,
    heads: i64,
    length: i64,
    dropout: Dropout<'a>,
}

impl Attention<'_> {
    /// The context `[rows * length, hidden]` of columns q | k | v, `[rows * length, 3 hidden]`.
    fn context(&self, projected: &Tensor) -> Tensor {
        let parts = projected.view([-1, self.length, 3, self.heads, projected.size()[1] / (3 * self.heads)]);
        let mut parts = parts.transpose(1, 3).unbind(2).into_iter();
        let [query, key, value] = std::array::from_fn(|_| parts.next().unwrap_or_default());
        let (rows, _, length, head) = query.size4().unwrap_or_default();
        // Scaled before its products, which keeps half precision away from its bound.
        let query = rotated(&query, self.rotary) * (head as f64).sqrt().recip();
        let key = rotated(&key, self.rotary);
        let context = match self.dropout.rng {
            None => {
                let mask = self.mask.expand([rows, -1, length, length], true);
                Tensor::scaled_dot_product_attention(&query, &key, &value, Some(&mask), 0.0, false, Some(1.0), false)
            }
            // libtorch's own attention draws numbers that depend on its shape, and adds up gradients in any order.
            Some(_) => {
                let weights = (query.matmul(&key.transpose(-1, -2)) + self.mask).softmax(-1, query.kind());
                self.dropout.weights(&weights).matmul(&value)
            }
        };
        context.transpose(1, 2).reshape([rows * length, -1])
    }
}
