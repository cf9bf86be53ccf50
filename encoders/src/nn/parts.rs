//! What the architectures share: the post-norm transformer layer, whose attention is each one's own.

use serde_json::json;
use tch::{Kind, Tensor};
use torch_ext::ops::attention::Attention;
use torch_ext::ops::dropout::Dropout;
use torch_ext::ops::encoder_layer::{self, AugmentedLinear, reserved};
use torch_ext::ops::lora_linear::lora_linear;
use torch_ext::ops::norm::drop_add_norm;
use torch_ext::token_layout::TokenLayout;

use crate::checkpoint::reader::Reader;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::pass::Pass;
use crate::pass::place::{self, InLayer};
use crate::pass::{LayerObserver, TokenBatch};
use crate::target::{ModuleKind, TargetModule};

/// Values that a configuration may claim for each one of the checkpoint.
const CLAIM: f64 = 4.0;
/// Values that a configuration of a small checkpoint may claim.
const CLAIM_OF_SMALL: f64 = 1e6;
/// Layers that a configuration may claim beyond those of the checkpoint.
const CLAIMED_LAYERS: i64 = 64;

/// Defaults of transformers for absent options.
pub(crate) struct Defaults {
    pub hidden: i64,
    pub layer_count: i64,
    pub heads: i64,
    pub intermediate: i64,
    pub vocab: i64,
    pub eps: f64,
}

/// Tensors of heads and buffers that a checkpoint may hold beside the encoder's, by the start of their name without prefix.
pub(crate) const OF_OTHERS: &[&str] = &[
    "cls.",
    "classifier.",
    "embeddings.position_ids",
    "embeddings.token_type_ids",
    "lm_head.",
    "lm_predictions.",
    "mask_predictions.",
    "predictions.",
    "qa_outputs.",
    "score.",
    "seq_relationship.",
];

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
        "hidden_act",
        "hidden_dropout_prob",
        "hidden_size",
        "intermediate_size",
        "layer_norm_eps",
        "max_position_embeddings",
        "num_attention_heads",
        "num_hidden_layers",
        "vocab_size",
    ];

    pub fn read(config: &Config, defaults: &Defaults) -> Result<Self> {
        config.check_activation("hidden_act")?;
        let dims = Dims {
            hidden: config.count_or("hidden_size", defaults.hidden)?,
            layer_count: config.count_or("num_hidden_layers", defaults.layer_count)?,
            heads: config.count_or("num_attention_heads", defaults.heads)?,
            intermediate: config.count_or("intermediate_size", defaults.intermediate)?,
            vocab: config.count_or("vocab_size", defaults.vocab)?,
            positions: config.count_or("max_position_embeddings", 512)?,
            eps: config.number_or("layer_norm_eps", defaults.eps)?,
            dropout: config.rate_or("hidden_dropout_prob", 0.1)?,
            attention_dropout: config.rate_or("attention_probs_dropout_prob", 0.1)?,
            initializer_range: config.number_or_none("initializer_range")?.unwrap_or(0.02),
        };
        if dims.hidden % dims.heads != 0 {
            let expected = format!("a divisor of hidden_size {}", dims.hidden);
            return Err(config.wrong("num_attention_heads", expected, &json!(dims.heads)));
        }
        Ok(dims)
    }

    /// Refuses sizes that ask for far more than the checkpoint holds, before anything is made of them: the shapes of its tensors
    /// decide. What is merely of another shape is reported with all the rest ([`Reader::finish`]). `others` are further options
    /// with their value, a tensor, and which of its dimensions it is.
    ///
    /// # Errors
    /// The first option that is not what the tensors say.
    pub fn hold(&self, config: &Config, reader: &Reader, others: &[(&'static str, i64, &str, usize)]) -> Result<()> {
        let Some((names, values)) = reader.contents() else { return Ok(()) };
        let layer = |name: &&str| name.strip_prefix("encoder.layer.")?.split('.').next()?.parse::<i64>().ok();
        let layers = names.iter().filter_map(layer).max().map_or(0, |last| last.saturating_add(1));
        let size = |n: i64| n as f64;
        let a_layer = size(self.hidden) * (4.0 * size(self.hidden) + 2.0 * size(self.intermediate));
        let others_claimed = others.iter().map(|(_, n, ..)| size(*n) * size(self.hidden)).sum::<f64>();
        let claimed = size(self.vocab) * size(self.hidden) + size(self.layer_count) * a_layer + others_claimed;
        if claimed <= CLAIM * values + CLAIM_OF_SMALL && self.layer_count <= layers.saturating_add(CLAIMED_LAYERS) {
            return Ok(());
        }
        let word = "embeddings.word_embeddings.weight";
        let sizes = [
            ("vocab_size", self.vocab, word, 0),
            ("hidden_size", self.hidden, word, 1),
            ("intermediate_size", self.intermediate, "encoder.layer.0.intermediate.dense.weight", 0),
        ];
        let wrong = |option, value, found| Err(Error::Size { path: config.path().to_path_buf(), option, value, found });
        for (option, value, tensor, dimension) in sizes.into_iter().chain(others.iter().copied()) {
            match reader.shape(tensor) {
                Some(shape) if shape.get(dimension) == Some(&value) => {}
                Some(shape) => return wrong(option, value, format!("{tensor} is {shape:?}")),
                None => return wrong(option, value, format!("the checkpoint has no {tensor}")),
            }
        }
        wrong("num_hidden_layers", self.layer_count, format!("the checkpoint has {layers} layers"))
    }

    fn width(&self, kind: ModuleKind) -> (i64, i64) {
        match kind {
            ModuleKind::Intermediate => (self.hidden, self.intermediate),
            ModuleKind::Output => (self.intermediate, self.hidden),
            _ => (self.hidden, self.hidden),
        }
    }
}

/// The kinds of modules of a layer in module order.
const KINDS: [ModuleKind; 6] = [
    ModuleKind::Query,
    ModuleKind::Key,
    ModuleKind::Value,
    ModuleKind::AttentionOutput,
    ModuleKind::Intermediate,
    ModuleKind::Output,
];

/// The first of them, query, key and value, have the same input.
const PROJECTED: usize = 3;

/// Their names within a layer, in the same order.
pub(crate) type SiteNames = [&'static str; KINDS.len()];

/// BERT's names, which RoBERTa has, too.
pub(crate) const BERT_MODULES: SiteNames = [
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

    /// The linear with whatever is attached at its module.
    fn forward(&self, module: &TargetModule, x: &Tensor, pass: Pass) -> Tensor {
        let (weight, bias) = (self.weight.of(pass), self.bias.of(pass));
        match pass.attach.low_rank(module) {
            Some(branch) => lora_linear(x, [weight, bias], branch),
            None => pass.attach.output(module, x, x.linear(weight, Some(bias))),
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

/// Weight and bias of linears with the same input, one below the other, and what is reserved behind the weight
/// ([`torch_ext::ops::encoder_layer::reserved`]).
struct FusedLinear {
    whole: Tensor,
    bias: Tensor,
    reserved: i64,
}

impl FusedLinear {
    fn of(reader: &Reader, linears: &mut [Linear]) -> Self {
        let (device, kind) = reader.options();
        let reserved = reserved(linears.len(), device, kind);
        let mut join = |part: fn(&mut Linear) -> &mut Weight, reserved: i64| {
            let mut parts: Vec<&mut Weight> = linears.iter_mut().map(part).collect();
            let (whole, views) = reader.join(&parts.iter().map(|part| part.index).collect::<Vec<_>>(), reserved);
            parts.iter_mut().zip(views).for_each(|(part, view)| part.tensor = view);
            whole
        };
        FusedLinear {
            whole: join(|linear| &mut linear.weight, reserved),
            bias: join(|linear| &mut linear.bias, 0),
            reserved,
        }
    }

    fn weight(&self) -> Tensor {
        let size = self.whole.size();
        self.whole.narrow(0, 0, size[0] - self.reserved).narrow(1, 0, size[1] - self.reserved)
    }

    fn adapted<'a>(&'a self, branch: [&'a Tensor; 2]) -> AugmentedLinear<'a> {
        AugmentedLinear { augmented: &self.whole, bias: &self.bias, branch }
    }
}

/// How the linears of a layer are laid together: those with the same input.
const TOGETHER: [std::ops::Range<usize>; 4] = [0..PROJECTED, 3..4, 4..5, 5..6];

struct Layer {
    linears: [Linear; KINDS.len()],
    fused: [FusedLinear; TOGETHER.len()],
    attention_norm: Norm,
    output_norm: Norm,
}

impl Layer {
    fn read(reader: &Reader, dims: &Dims, names: &SiteNames, index: usize) -> Self {
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        let mut linears = std::array::from_fn(|i| Linear::read(reader, &name(names[i]), dims.width(KINDS[i])));
        Layer {
            fused: TOGETHER.map(|range| FusedLinear::of(reader, &mut linears[range])),
            linears,
            attention_norm: Norm::read(reader, &name("attention.output.LayerNorm"), dims),
            output_norm: Norm::read(reader, &name("output.LayerNorm"), dims),
        }
    }

    fn weights(&self) -> impl Iterator<Item = &Weight> {
        let of_linears = self.linears.iter().flat_map(|linear| [&linear.weight, &linear.bias]);
        let of_norms =
            [&self.attention_norm, &self.output_norm].into_iter().flat_map(|norm| [&norm.weight, &norm.bias]);
        of_linears.chain(of_norms)
    }
}

/// The layers of an encoder with their modules, and every tensor of the backbone.
pub struct Trunk {
    pub(crate) dims: Dims,
    prefix: String,
    modules: Vec<TargetModule>,
    layers: Vec<Layer>,
    weights: Vec<(String, Tensor)>,
}

impl Trunk {
    /// Reads the layers. Everything else of the backbone has been read before, so that the list of its tensors is whole.
    pub(crate) fn read(reader: &Reader, dims: Dims, prefix: &str, names: &SiteNames) -> Self {
        let count = dims.layer_count as usize;
        let of_layer = |layer: usize| {
            let module = |(i, &kind): (usize, &ModuleKind)| {
                let (d_in, d_out) = dims.width(kind);
                let path = format!("{prefix}encoder.layer.{layer}.{}", names[i]);
                TargetModule { index: layer * KINDS.len() + i, path, kind, layer, d_in, d_out }
            };
            KINDS.iter().enumerate().map(module).collect::<Vec<_>>()
        };
        let modules = (0..count).flat_map(of_layer).collect();
        let layers = (0..count).map(|index| Layer::read(reader, &dims, names, index)).collect();
        let weights = reader.taken().into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect();
        Trunk { dims, prefix: prefix.into(), modules, layers, weights }
    }

    /// Start of the names of its modules in a model with a head, e.g. `bert.`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Every module, layer by layer.
    pub fn target_modules(&self) -> &[TargetModule] {
        &self.modules
    }

    /// Every tensor by its Hugging Face name.
    pub fn weights(&self) -> &[(String, Tensor)] {
        &self.weights
    }

    /// The last layer's output, `[rows, length, hidden]`, after `each` has seen every layer's; `distances` are a layer's
    /// relative embeddings ([`torch_ext::ops::encoder_layer::FusedLayer::distances`]), where it has any, and `scale` the
    /// factor of the scores. Within, rows and length are one dimension, so that every linear is a plain product; where a layer is one function, and
    /// nobody wants to see it, the dimension may have tokens alone.
    pub(crate) fn forward(
        &self,
        embedded: &Tensor,
        inputs: &TokenBatch,
        scale: f64,
        pass: Pass,
        distances: impl Fn(usize) -> Option<Tensor>,
        each: LayerObserver,
    ) -> Tensor {
        let whole = embedded.size();
        let x = embedded.reshape([-1, self.dims.hidden]);
        let input = |index: usize| {
            let (layer, modules) = (&self.layers[index], self.modules_of(index));
            LayerInput { distances: distances(index), scale, index, layer, modules, pass }
        };
        let layers = 0..self.layers.len();
        let branches: Option<Vec<Branches>> = layers.clone().map(|index| self.branches(index, pass)).collect();
        let serve =
            |branches: &Vec<Branches>| branches.iter().all(|of| encoder_layer::supports(&x, self.dims.heads, of));
        let last = match (branches.filter(serve), each) {
            (Some(branches), None) => {
                let layout = match inputs.lines {
                    Some(lines) => TokenLayout::packed(&inputs.mask, lines),
                    None => TokenLayout::padded(additive_mask(&inputs.mask, x.kind())),
                };
                let next = |x, index| self.forward_fused(&x, input(index), &branches[index], &layout);
                layout.unpack(&layers.fold(layout.pack(&x), next))
            }
            (_, mut each) => {
                let mask = additive_mask(&inputs.mask, x.kind());
                layers.fold(x, |x, index| {
                    let x = self.layer(&x, input(index), &mask);
                    if let Some(each) = &mut each {
                        each(&x.view(whole.as_slice()));
                    }
                    x
                })
            }
        };
        last.view(whole.as_slice())
    }

    fn modules_of(&self, layer: usize) -> &[TargetModule] {
        &self.modules[layer * KINDS.len()..][..KINDS.len()]
    }

    /// The branches of a layer's linears, where each of them has one and nothing else of it is trained.
    fn branches<'a>(&self, index: usize, pass: Pass<'a>) -> Option<Branches<'a>> {
        if self.layers[index].weights().any(|weight| pass.attach.weight(weight.index).is_some()) {
            return None;
        }
        let modules = self.modules_of(index);
        let branch = |module: usize| pass.attach.low_rank(&modules[module]);
        Some([pass.attach.fused_qkv(&modules[..PROJECTED])?, branch(3)?, branch(4)?, branch(5)?])
    }

    /// Of attention's weights, attention's output, and the output of a layer.
    fn dropouts<'a>(&self, index: usize, pass: Pass<'a>) -> [Dropout<'a>; 3] {
        [
            pass.dropout(place::of_layer(index, InLayer::Weights), self.dims.attention_dropout),
            pass.dropout(place::of_layer(index, InLayer::AttentionOutput), self.dims.dropout),
            pass.dropout(place::of_layer(index, InLayer::Output), self.dims.dropout),
        ]
    }

    /// A layer as one function of `x` `[lines, hidden]`.
    fn forward_fused(&self, x: &Tensor, input: LayerInput, branches: &Branches, layout: &TokenLayout) -> Tensor {
        let LayerInput { distances, scale, index, layer, pass, .. } = &input;
        let linears = std::array::from_fn(|i| layer.fused[i].adapted(branches[i]));
        let norms = [&layer.attention_norm, &layer.output_norm].map(|norm| [&norm.weight.tensor, &norm.bias.tensor]);
        let dropouts = self.dropouts(*index, *pass);
        let (eps, heads, scale, distances) = (self.dims.eps, self.dims.heads, *scale, distances.as_ref());
        encoder_layer::FusedLayer { x, distances, layout, linears, norms, eps, heads, scale, dropouts }.forward()
    }

    /// A layer operation by operation, of `x` `[rows * length, hidden]`; the mask is added to the scores.
    fn layer(&self, x: &Tensor, input: LayerInput, mask: &Tensor) -> Tensor {
        let LayerInput { scale, index, layer, modules, pass, .. } = input;
        let [of_weights, of_attention, of_output] = self.dropouts(index, pass);
        let length = mask.size()[3];
        let [.., attention_output, intermediate, output] = &layer.linears;
        let context = Attention {
            projected: &input.projected(x),
            has_positions: input.distances.is_some(),
            mask,
            heads: self.dims.heads,
            scale,
            dropout: of_weights,
        };
        let attended = attention_output.forward(&modules[3], &context.context(), pass);
        let attended = layer.attention_norm.after(&attended, x, of_attention, length, pass);
        let inner = intermediate.forward(&modules[4], &attended, pass).gelu("none");
        layer.output_norm.after(&output.forward(&modules[5], &inner, pass), &attended, of_output, length, pass)
    }

    /// [`Trunk::forward`] with plain self-attention, as BERT and RoBERTa have it.
    pub(crate) fn self_attended(
        &self,
        embedded: &Tensor,
        inputs: &TokenBatch,
        pass: Pass,
        each: LayerObserver,
    ) -> Tensor {
        let scale = ((self.dims.hidden / self.dims.heads) as f64).sqrt().recip();
        self.forward(embedded, inputs, scale, pass, |_| None, each)
    }

    /// Dropout of the embeddings `[runs * rows, length, hidden]`.
    pub(crate) fn drop_embeddings(&self, x: &Tensor, pass: Pass) -> Tensor {
        pass.dropout(place::EMBEDDINGS, self.dims.dropout).hidden(x, x.size()[1], 0)
    }
}

/// A and U of the branches of a layer's linears: of query, key and value as one, and of the other three.
type Branches<'a> = [[&'a Tensor; 2]; TOGETHER.len()];

/// What one layer works with beside its hidden states; `scale` is the factor of the scores.
struct LayerInput<'a> {
    distances: Option<Tensor>,
    scale: f64,
    index: usize,
    layer: &'a Layer,
    modules: &'a [TargetModule],
    pass: Pass<'a>,
}

impl LayerInput<'_> {
    /// Query, key and value of `x`, and of each run's distances after its lines, side by side: `[.., 3 hidden]`.
    fn projected(&self, x: &Tensor) -> Tensor {
        let x = match &self.distances {
            None => x.shallow_clone(),
            Some(distances) => {
                let of_runs = |x: &Tensor| x.view([self.pass.runs(), -1, x.size()[1]]);
                Tensor::cat(&[of_runs(x), of_runs(distances)], 1).flatten(0, 1)
            }
        };
        let modules = &self.modules[..PROJECTED];
        if let Some(branch) = self.pass.attach.fused_qkv(modules) {
            let fused = &self.layer.fused[0];
            return lora_linear(&x, [&fused.weight(), &fused.bias], branch);
        }
        let parts =
            self.layer.linears.iter().zip(modules).map(|(linear, module)| linear.forward(module, &x, self.pass));
        Tensor::cat(&parts.collect::<Vec<_>>(), -1)
    }
}

/// 0 for a token and a value that softmax sends to 0 for padding, finite in every kind, `[rows, 1, 1, length]`.
pub(crate) fn additive_mask(mask: &Tensor, kind: Kind) -> Tensor {
    let far = if kind == Kind::Half { 6e4 } else { 1e30 };
    let (rows, length) = mask.size2().unwrap_or_default();
    ((mask.to_kind(Kind::Float) - 1.0) * far).view([rows, 1, 1, length]).to_kind(kind)
}
