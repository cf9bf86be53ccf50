//! What the architectures share: the post-norm transformer layer, whose attention is each one's own.

use serde_json::json;
use tch::{Kind, Tensor};
use torch_ext::attention::Attention;
use torch_ext::dropout::Dropout;
use torch_ext::linear::adapted;
use torch_ext::norm::drop_add_norm;

use crate::checkpoint::Reader;
use crate::config::Config;
use crate::encoder::Inputs;
use crate::error::Result;
use crate::site::place::{self, InLayer};
use crate::site::{Pass, Site, SiteKind};

/// Sizes and rates that every architecture has.
pub(crate) struct Dims {
    pub hidden: i64,
    pub layer_count: i64,
    pub heads: i64,
    pub intermediate: i64,
    pub vocab: i64,
    pub positions: i64,
    pub eps: f64,
    pub dropout: f64,
    pub attention_dropout: f64,
    pub initializer_range: f64,
}

impl Dims {
    /// Options [`Dims::read`] reads.
    pub const USED: &[&str] = &[
        "attention_probs_dropout_prob",
        "hidden_dropout_prob",
        "hidden_size",
        "intermediate_size",
        "layer_norm_eps",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
    ];

    pub fn read(config: &Config) -> Result<Self> {
        let dims = Dims {
            hidden: config.count("hidden_size")?,
            layer_count: config.count("num_hidden_layers")?,
            heads: config.count("num_attention_heads")?,
            intermediate: config.count("intermediate_size")?,
            vocab: config.count("vocab_size")?,
            positions: config.count("max_position_embeddings")?,
            eps: config.number("layer_norm_eps")?,
            dropout: config.number("hidden_dropout_prob")?,
            attention_dropout: config.number("attention_probs_dropout_prob")?,
            initializer_range: config.number_or_none("initializer_range")?.unwrap_or(0.02),
        };
        if dims.hidden % dims.heads != 0 {
            let expected = format!("a divisor of hidden_size {}", dims.hidden);
            return Err(config.wrong("num_attention_heads", expected, &json!(dims.heads)));
        }
        Ok(dims)
    }

    fn width(&self, kind: SiteKind) -> (i64, i64) {
        match kind {
            SiteKind::Intermediate => (self.hidden, self.intermediate),
            SiteKind::Output => (self.intermediate, self.hidden),
            _ => (self.hidden, self.hidden),
        }
    }
}

/// The kinds of sites of a layer in module order.
const KINDS: [SiteKind; 6] = [
    SiteKind::Query,
    SiteKind::Key,
    SiteKind::Value,
    SiteKind::AttentionOutput,
    SiteKind::Intermediate,
    SiteKind::Output,
];

/// The first of them, query, key and value, have the same input.
const PROJECTED: usize = 3;

/// Their names within a layer, in the same order.
pub(crate) type SiteNames = [&'static str; KINDS.len()];

/// BERT's names, which RoBERTa has, too.
pub(crate) const BERT_SITES: SiteNames = [
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
];

/// One tensor of the backbone; where a method trains it, what it trains stands in its place.
pub(crate) struct Weight {
    index: usize,
    tensor: Tensor,
}

impl Weight {
    pub fn read(reader: &Reader, name: &str, shape: &[i64]) -> Self {
        let (index, tensor) = reader.take(name, shape);
        Weight { index, tensor }
    }

    pub fn of<'a>(&'a self, pass: Pass<'a>) -> &'a Tensor {
        pass.attach.weight(self.index).unwrap_or(&self.tensor)
    }
}

/// Rows of a table by id.
pub(crate) struct Table(pub Weight);

impl Table {
    pub fn read(reader: &Reader, name: &str, shape: [i64; 2]) -> Self {
        Table(Weight::read(reader, &format!("{name}.weight"), &shape))
    }

    pub fn lookup(&self, ids: &Tensor, pass: Pass) -> Tensor {
        Tensor::embedding(self.0.of(pass), ids, -1, false, false)
    }
}

pub(crate) struct Linear {
    weight: Weight,
    bias: Weight,
}

impl Linear {
    fn read(reader: &Reader, name: &str, (d_in, d_out): (i64, i64)) -> Self {
        Linear {
            weight: Weight::read(reader, &format!("{name}.weight"), &[d_out, d_in]),
            bias: Weight::read(reader, &format!("{name}.bias"), &[d_out]),
        }
    }

    /// The linear with whatever is attached at its site.
    fn forward(&self, site: &Site, x: &Tensor, pass: Pass) -> Tensor {
        let (weight, bias) = (self.weight.of(pass), self.bias.of(pass));
        match pass.attach.low_rank(site) {
            Some(branch) => adapted(x, [weight, bias], branch),
            None => pass.attach.output(site, x, x.linear(weight, Some(bias))),
        }
    }
}

pub(crate) struct Norm {
    weight: Weight,
    bias: Weight,
    eps: f64,
}

impl Norm {
    pub fn read(reader: &Reader, name: &str, dims: &Dims) -> Self {
        let part = |part: &str| Weight::read(reader, &format!("{name}.{part}"), &[dims.hidden]);
        Norm { weight: part("weight"), bias: part("bias"), eps: dims.eps }
    }

    pub fn forward(&self, x: &Tensor, pass: Pass) -> Tensor {
        let (weight, bias) = (self.weight.of(pass), self.bias.of(pass));
        x.layer_norm(weight.size(), Some(weight), Some(bias), self.eps, true)
    }

    /// Of `dropout(x) + residual`.
    fn after(&self, x: &Tensor, residual: &Tensor, dropout: Dropout, length: i64, pass: Pass) -> Tensor {
        drop_add_norm(x, residual, [self.weight.of(pass), self.bias.of(pass)], self.eps, dropout, length)
    }
}

/// Weight and bias of query, key and value, one below the other.
struct Joined([Tensor; 2]);

impl Joined {
    fn of(reader: &Reader, linears: &mut [Linear]) -> Self {
        let mut join = |part: fn(&mut Linear) -> &mut Weight| {
            let mut parts: Vec<&mut Weight> = linears.iter_mut().map(part).collect();
            let (whole, views) = reader.join(&parts.iter().map(|part| part.index).collect::<Vec<_>>());
            parts.iter_mut().zip(views).for_each(|(part, view)| part.tensor = view);
            whole
        };
        Joined([join(|linear| &mut linear.weight), join(|linear| &mut linear.bias)])
    }
}

struct Layer {
    linears: [Linear; KINDS.len()],
    joined: Joined,
    attention_norm: Norm,
    output_norm: Norm,
}

impl Layer {
    fn read(reader: &Reader, dims: &Dims, names: &SiteNames, index: usize) -> Self {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let mut linears = std::array::from_fn(|i| Linear::read(reader, &name(names[i]), dims.width(KINDS[i])));
        Layer {
            joined: Joined::of(reader, &mut linears[..PROJECTED]),
            linears,
            attention_norm: Norm::read(reader, &name("attention.output.LayerNorm"), dims),
            output_norm: Norm::read(reader, &name("output.LayerNorm"), dims),
        }
    }
}

/// The layers of an encoder with their sites, and every tensor of the backbone.
pub struct Trunk {
    pub(crate) dims: Dims,
    sites: Vec<Site>,
    layers: Vec<Layer>,
    weights: Vec<(String, Tensor)>,
}

impl Trunk {
    /// Reads the layers. Everything else of the backbone has been read before, so that the list of its tensors is whole.
    pub(crate) fn read(reader: &Reader, dims: Dims, prefix: &str, names: &SiteNames) -> Self {
        let count = dims.layer_count as usize;
        let of_layer = |layer: usize| {
            let site = |(i, &kind): (usize, &SiteKind)| {
                let (d_in, d_out) = dims.width(kind);
                let path = format!("{prefix}encoder.layer.{layer}.{}", names[i]);
                Site { index: layer * KINDS.len() + i, path, kind, layer, d_in, d_out }
            };
            KINDS.iter().enumerate().map(site).collect::<Vec<_>>()
        };
        let sites = (0..count).flat_map(of_layer).collect();
        let layers = (0..count).map(|index| Layer::read(reader, &dims, names, index)).collect();
        let weights = reader.taken().into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect();
        Trunk { dims, sites, layers, weights }
    }

    /// Every site, layer by layer.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// Every tensor by its Hugging Face name.
    pub fn weights(&self) -> &[(String, Tensor)] {
        &self.weights
    }

    /// Every layer's output, `[rows, length, hidden]`; `context` is the attention of one layer: its context for the
    /// layer's input. Within, rows and length are one dimension, so that every linear is a plain product.
    pub(crate) fn forward(&self, embedded: &Tensor, pass: Pass, context: impl Fn(LayerInput) -> Tensor) -> Vec<Tensor> {
        let whole = embedded.size();
        let (embedded, length) = (embedded.reshape([-1, self.dims.hidden]), whole[1]);
        let mut states: Vec<Tensor> = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let x = states.last().unwrap_or(&embedded);
            let sites = &self.sites[index * KINDS.len()..(index + 1) * KINDS.len()];
            let input = LayerInput { x, index, layer, sites, pass };
            let dropout = |at: InLayer| pass.dropout(place::of_layer(index, at), self.dims.dropout);
            let [.., attention_output, intermediate, output] = &layer.linears;
            let attended = attention_output.forward(&sites[3], &context(input), pass);
            let attended = layer.attention_norm.after(&attended, x, dropout(InLayer::AttentionOutput), length, pass);
            let inner = intermediate.forward(&sites[4], &attended, pass).gelu("none");
            let out = output.forward(&sites[5], &inner, pass);
            states.push(layer.output_norm.after(&out, &attended, dropout(InLayer::Output), length, pass));
        }
        states.iter().map(|state| state.view(whole.as_slice())).collect()
    }

    /// [`Trunk::forward`] with plain self-attention, as BERT and RoBERTa have it.
    pub(crate) fn self_attended(&self, embedded: &Tensor, inputs: &Inputs, pass: Pass) -> Vec<Tensor> {
        let mask = additive_mask(&inputs.mask, embedded.kind());
        self.forward(embedded, pass, |layer| {
            let scale = ((self.dims.hidden / self.dims.heads) as f64).sqrt().recip();
            self.attend(&layer.projected(layer.x), false, &mask, scale, layer)
        })
    }

    /// Dropout of the embeddings `[runs * rows, length, hidden]`.
    pub(crate) fn drop_embeddings(&self, x: &Tensor, pass: Pass) -> Tensor {
        pass.dropout(place::EMBEDDINGS, self.dims.dropout).hidden(x, x.size()[1], 0)
    }

    /// Self-attention's context `[rows * length, hidden]` ([`Attention::projected`]).
    pub(crate) fn attend(
        &self,
        projected: &Tensor,
        has_positions: bool,
        mask: &Tensor,
        scale: f64,
        layer: LayerInput,
    ) -> Tensor {
        let place = place::of_layer(layer.index, InLayer::Weights);
        let dropout = layer.pass.dropout(place, self.dims.attention_dropout);
        Attention { projected, has_positions, mask, heads: self.dims.heads, scale, dropout }.context()
    }
}

/// What the attention of one layer works on: `x` is `[rows * length, hidden]`.
#[derive(Clone, Copy)]
pub(crate) struct LayerInput<'a> {
    pub x: &'a Tensor,
    pub index: usize,
    layer: &'a Layer,
    sites: &'a [Site],
    pub pass: Pass<'a>,
}

impl LayerInput<'_> {
    /// Query, key and value of `x`, side by side, `[.., 3 hidden]`.
    pub fn projected(&self, x: &Tensor) -> Tensor {
        let sites = &self.sites[..PROJECTED];
        if let Some(branch) = self.pass.attach.joined(sites) {
            let Joined([weight, bias]) = &self.layer.joined;
            return adapted(x, [weight, bias], branch);
        }
        let parts = self.layer.linears.iter().zip(sites).map(|(linear, site)| linear.forward(site, x, self.pass));
        Tensor::cat(&parts.collect::<Vec<_>>(), -1)
    }
}

/// 0 for a token and a value that softmax sends to 0 for padding, finite in every kind, `[rows, 1, 1, length]`.
pub(crate) fn additive_mask(mask: &Tensor, kind: Kind) -> Tensor {
    let far = if kind == Kind::Half { 6e4 } else { 1e30 };
    let (rows, length) = mask.size2().unwrap_or_default();
    ((mask.to_kind(Kind::Float) - 1.0) * far).view([rows, 1, 1, length]).to_kind(kind)
}
