//! BERT (Devlin et al. 2019), which MiniLM is too: `BertForSequenceClassification` of transformers, frozen.

use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::checkpoint::Reader;
use crate::config::Config;
use crate::encoder::{Encoder, Inputs};
use crate::error::Result;
use crate::head::{Head, HeadParam};
use crate::registry::Entry;
use crate::site::{Attach, Site, SiteKind};

/// Registry line.
pub static ENTRY: Entry = Entry {
    model_type: "bert",
    prefix: PREFIX,
    ignored: &["embeddings.position_ids", "cls.", "classifier."],
    tiny: r#"{"model_type": "bert", "hidden_act": "gelu", "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 64, "max_position_embeddings": 40,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}"#,
    build: |config, reader| Ok(Box::new(Bert::new(config, reader)?)),
};

const PREFIX: &str = "bert.";
/// Options this file reads.
const USED: &[&str] = &[
    "attention_probs_dropout_prob",
    "classifier_dropout",
    "hidden_dropout_prob",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "type_vocab_size",
    "vocab_size",
];
/// Shape and rates of the model.
struct Shape {
    hidden: i64,
    layers: i64,
    heads: i64,
    intermediate: i64,
    vocab: i64,
    positions: i64,
    types: i64,
    eps: f64,
    dropout: f64,
    attention_dropout: f64,
    classifier_dropout: f64,
    initializer_range: f64,
}

/// The frozen encoder.
pub struct Bert {
    shape: Shape,
    sites: Vec<Site>,
    word: Tensor,
    position: Tensor,
    token_type: Tensor,
    norm: Norm,
    layers: Vec<Layer>,
    pooler: Option<Linear>,
}

struct Linear {
    weight: Tensor,
    bias: Tensor,
}

struct Norm {
    weight: Tensor,
    bias: Tensor,
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    attention_output: Linear,
    attention_norm: Norm,
    intermediate: Linear,
    output: Linear,
    output_norm: Norm,
}

/// Sites of a layer in module order, with their names in the checkpoint.
const LAYER_SITES: [(SiteKind, &str); 6] = [
    (SiteKind::Query, "attention.self.query"),
    (SiteKind::Key, "attention.self.key"),
    (SiteKind::Value, "attention.self.value"),
    (SiteKind::AttentionOutput, "attention.output.dense"),
    (SiteKind::Intermediate, "intermediate.dense"),
    (SiteKind::Output, "output.dense"),
];

impl Shape {
    fn read(config: &Config) -> Result<Self> {
        let fixed = [
            ("hidden_act", json!("gelu")),
            ("position_embedding_type", json!("absolute")),
            ("is_decoder", json!(false)),
            ("is_encoder_decoder", json!(false)),
            ("add_cross_attention", json!(false)),
            ("pruned_heads", json!({})),
        ];
        config.check(USED, &fixed)?;
        let dropout = config.number("hidden_dropout_prob")?;
        let shape = Shape {
            hidden: config.count("hidden_size")?,
            layers: config.count("num_hidden_layers")?,
            heads: config.count("num_attention_heads")?,
            intermediate: config.count("intermediate_size")?,
            vocab: config.count("vocab_size")?,
            positions: config.count("max_position_embeddings")?,
            types: config.count("type_vocab_size")?,
            eps: config.number("layer_norm_eps")?,
            dropout,
            attention_dropout: config.number("attention_probs_dropout_prob")?,
            classifier_dropout: config.number_or_none("classifier_dropout")?.unwrap_or(dropout),
            initializer_range: config.number_or_none("initializer_range")?.unwrap_or(0.02),
        };
        if shape.hidden % shape.heads != 0 {
            let expected = format!("a divisor of hidden_size {}", shape.hidden);
            return Err(config.wrong("num_attention_heads", expected, &json!(shape.heads)));
        }
        Ok(shape)
    }

    fn width(&self, kind: SiteKind) -> (i64, i64) {
        match kind {
            SiteKind::Intermediate => (self.hidden, self.intermediate),
            SiteKind::Output => (self.intermediate, self.hidden),
            _ => (self.hidden, self.hidden),
        }
    }

    fn sites(&self) -> Vec<Site> {
        let of_layer = |layer: usize| {
            LAYER_SITES.into_iter().enumerate().map(move |(i, (kind, name))| {
                let (d_in, d_out) = self.width(kind);
                let path = format!("{PREFIX}encoder.layer.{layer}.{name}");
                Site { index: layer * LAYER_SITES.len() + i, path, kind, layer, d_in, d_out }
            })
        };
        (0..self.layers as usize).flat_map(of_layer).collect()
    }
}

impl Linear {
    fn read(reader: &Reader, name: &str, (d_in, d_out): (i64, i64)) -> Self {
        Linear {
            weight: reader.take(&format!("{name}.weight"), &[d_out, d_in]),
            bias: reader.take(&format!("{name}.bias"), &[d_out]),
        }
    }

    /// The frozen linear plus whatever is attached at its site.
    fn adapted(&self, site: &Site, x: &Tensor, attach: &dyn Attach) -> Tensor {
        let frozen = x.linear(&self.weight, Some(&self.bias));
        match attach.branch(site, x) {
            Some(branch) => frozen + branch,
            None => frozen,
        }
    }
}

impl Norm {
    fn read(reader: &Reader, name: &str, width: i64) -> Self {
        Norm {
            weight: reader.take(&format!("{name}.weight"), &[width]),
            bias: reader.take(&format!("{name}.bias"), &[width]),
        }
    }

    fn forward(&self, x: &Tensor, eps: f64) -> Tensor {
        x.layer_norm(self.weight.size(), Some(&self.weight), Some(&self.bias), eps, true)
    }
}

impl Layer {
    fn read(reader: &Reader, shape: &Shape, layer: i64) -> Self {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let [query, key, value, attention_output, intermediate, output] =
            LAYER_SITES.map(|(kind, part)| Linear::read(reader, &name(part), shape.width(kind)));
        let attention_norm = Norm::read(reader, &name("attention.output.LayerNorm"), shape.hidden);
        let output_norm = Norm::read(reader, &name("output.LayerNorm"), shape.hidden);
        Layer { query, key, value, attention_output, attention_norm, intermediate, output, output_norm }
    }

    fn named(&self) -> Vec<(&'static str, &Tensor, &Tensor)> {
        let linears = [&self.query, &self.key, &self.value, &self.attention_output, &self.intermediate, &self.output];
        let linears = LAYER_SITES.into_iter().zip(linears).map(|((_, name), l)| (name, &l.weight, &l.bias));
        let norms = [("attention.output.LayerNorm", &self.attention_norm), ("output.LayerNorm", &self.output_norm)];
        linears.chain(norms.into_iter().map(|(name, n)| (name, &n.weight, &n.bias))).collect()
    }
}

impl Bert {
    /// Takes its tensors; the pooler is kept for the head where the checkpoint has one.
    ///
    /// # Errors
    /// An option that is not supported.
    pub fn new(config: &Config, reader: &Reader) -> Result<Self> {
        let shape = Shape::read(config)?;
        let hidden = shape.hidden;
        let embedding = |name: &str, rows: i64| reader.take(&format!("embeddings.{name}.weight"), &[rows, hidden]);
        let pooler = reader
            .take_optional("pooler.dense.weight", &[hidden, hidden])
            .map(|weight| Linear { weight, bias: reader.take("pooler.dense.bias", &[hidden]) });
        Ok(Bert {
            sites: shape.sites(),
            word: embedding("word_embeddings", shape.vocab),
            position: embedding("position_embeddings", shape.positions),
            token_type: embedding("token_type_embeddings", shape.types),
            norm: Norm::read(reader, "embeddings.LayerNorm", hidden),
            layers: (0..shape.layers).map(|layer| Layer::read(reader, &shape, layer)).collect(),
            pooler,
            shape,
        })
    }

    /// Self-attention's context, `[rows, length, hidden]`; `mask` is additive, `[rows, 1, 1, length]`.
    fn attention(&self, layer: &Layer, sites: &[Site], x: &Tensor, mask: &Tensor, run: Run) -> Tensor {
        let (rows, length, _) = x.size3().unwrap_or_default();
        let split = |linear: &Linear, site: &Site| {
            linear.adapted(site, x, run.attach).view([rows, length, self.shape.heads, -1]).transpose(1, 2)
        };
        let (query, key, value) =
            (split(&layer.query, &sites[0]), split(&layer.key, &sites[1]), split(&layer.value, &sites[2]));
        let dropout = if run.train { self.shape.attention_dropout } else { 0.0 };
        let mask = mask.to_kind(query.kind()).expand([rows, 1, length, length], true);
        let context =
            Tensor::scaled_dot_product_attention(&query, &key, &value, Some(&mask), dropout, false, None, false);
        context.transpose(1, 2).reshape([rows, length, self.shape.hidden])
    }

    fn layer(&self, index: usize, x: &Tensor, mask: &Tensor, run: Run) -> Tensor {
        let layer = &self.layers[index];
        let sites = &self.sites[index * LAYER_SITES.len()..(index + 1) * LAYER_SITES.len()];
        let drop = |x: Tensor| if run.train { x.dropout(self.shape.dropout, true) } else { x };
        let context = self.attention(layer, sites, x, mask, run);
        let attended = drop(layer.attention_output.adapted(&sites[3], &context, run.attach)) + x;
        let attended = layer.attention_norm.forward(&attended, self.shape.eps);
        let inner = layer.intermediate.adapted(&sites[4], &attended, run.attach).gelu("none");
        let out = drop(layer.output.adapted(&sites[5], &inner, run.attach)) + &attended;
        layer.output_norm.forward(&out, self.shape.eps)
    }
}

/// How one pass is run.
#[derive(Clone, Copy)]
struct Run<'a> {
    attach: &'a dyn Attach,
    train: bool,
}

impl Encoder for Bert {
    fn sites(&self) -> &[Site] {
        &self.sites
    }

    fn hidden_size(&self) -> i64 {
        self.shape.hidden
    }

    fn max_positions(&self) -> usize {
        self.shape.positions as usize
    }

    fn vocab_size(&self) -> usize {
        self.shape.vocab as usize
    }

    fn weights(&self) -> Vec<(String, Tensor)> {
        let embeddings = [
            ("word_embeddings.weight", &self.word),
            ("position_embeddings.weight", &self.position),
            ("token_type_embeddings.weight", &self.token_type),
            ("LayerNorm.weight", &self.norm.weight),
            ("LayerNorm.bias", &self.norm.bias),
        ];
        let embeddings = embeddings.into_iter().map(|(name, tensor)| (format!("{PREFIX}embeddings.{name}"), tensor));
        let layers = self.layers.iter().enumerate().flat_map(|(index, layer)| {
            layer.named().into_iter().flat_map(move |(name, weight, bias)| {
                let path = format!("{PREFIX}encoder.layer.{index}.{name}");
                [(format!("{path}.weight"), weight), (format!("{path}.bias"), bias)]
            })
        });
        embeddings.chain(layers).map(|(name, tensor)| (name, tensor.shallow_clone())).collect()
    }

    fn embeddings(&self, inputs: &Inputs, train: bool) -> Tensor {
        let length = inputs.ids.size()[1];
        let lookup = |table: &Tensor, ids: &Tensor| Tensor::embedding(table, ids, -1, false, false);
        let sum = lookup(&self.word, &inputs.ids)
            + lookup(&self.token_type, &inputs.type_ids)
            + self.position.narrow(0, 0, length);
        let embedded = self.norm.forward(&sum, self.shape.eps);
        if train { embedded.dropout(self.shape.dropout, true) } else { embedded }
    }

    fn layers(&self, embedded: &Tensor, inputs: &Inputs, attach: &dyn Attach, train: bool) -> Vec<Tensor> {
        let run = Run { attach, train };
        let mask = additive_mask(&inputs.mask, embedded.kind());
        let mut states: Vec<Tensor> = Vec::with_capacity(self.layers.len());
        for index in 0..self.layers.len() {
            let next = self.layer(index, states.last().unwrap_or(embedded), &mask, run);
            states.push(next);
        }
        states
    }

    fn head(&self, outputs: i64, seed: i64) -> Head {
        tch::manual_seed(seed);
        let hidden = self.shape.hidden;
        let like = (Kind::Float, Device::Cpu);
        let normal = |shape: [i64; 2]| Tensor::randn(shape, like) * self.shape.initializer_range;
        // Both are always drawn, so that the classifier does not depend on whether the checkpoint has a pooler.
        let (pooler, classifier) = (normal([hidden, hidden]), normal([outputs, hidden]));
        let (pooler, pooler_bias) = match &self.pooler {
            Some(linear) => (linear.weight.shallow_clone(), linear.bias.shallow_clone()),
            None => (pooler, Tensor::zeros([hidden], like)),
        };
        let param = |name: &str, init, decayed| HeadParam { name: name.into(), init, decayed };
        Head {
            params: vec![
                param("bert.pooler.dense.weight", pooler, true),
                param("bert.pooler.dense.bias", pooler_bias, false),
                param("classifier.weight", classifier, true),
                param("classifier.bias", Tensor::zeros([outputs], like), false),
            ],
        }
    }

    fn head_len(&self, outputs: i64) -> i64 {
        let hidden = self.shape.hidden;
        hidden * (hidden + 1) + outputs * (hidden + 1)
    }

    fn logits(&self, last_hidden: &Tensor, head: &[Tensor], train: bool) -> Tensor {
        let first = last_hidden.select(1, 0);
        let pooled = first.linear(&head[0], Some(&head[1])).tanh();
        let pooled = if train { pooled.dropout(self.shape.classifier_dropout, true) } else { pooled };
        pooled.linear(&head[2], Some(&head[3]))
    }
}

/// 0 for a token and a value that softmax sends to 0 for padding, finite in every kind, `[rows, 1, 1, length]`.
fn additive_mask(mask: &Tensor, kind: Kind) -> Tensor {
    let far = if kind == Kind::Half { 6e4 } else { 1e30 };
    let (rows, length) = mask.size2().unwrap_or_default();
    ((mask.to_kind(Kind::Float) - 1.0) * far).view([rows, 1, 1, length])
}
