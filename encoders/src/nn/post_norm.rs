//! A stack of post-norm layers, which BERT, RoBERTa, ELECTRA and DeBERTa share.

use tch::Tensor;
use torch_ext::ops::encoder_layer;
use torch_ext::token_layout::TokenLayout;

use crate::checkpoint::reader::Reader;
use crate::encoder::EncoderInfo;
use crate::nn::dims::Dims;
use crate::nn::distances::Distances;
use crate::nn::layer::{Branches, LayerInput, ModuleNames, PostNormLayer};
use crate::nn::mask::additive_mask;
use crate::pass::{LayerObserver, Pass, TokenBatch, streams};

/// The layers of an encoder.
pub(crate) struct PostNormEncoder {
    pub dims: Dims,
    pub info: EncoderInfo,
    layers: Vec<PostNormLayer>,
}

impl PostNormEncoder {
    /// Reads the layers. All other tensors of the backbone must have been read before, so that the list of its weights
    /// is complete.
    pub fn read(reader: &Reader, dims: Dims, prefix: &'static str, names: &ModuleNames, max_positions: i64) -> Self {
        let layer = |index: i64| PostNormLayer::read(reader, &dims, prefix, names, index as usize);
        let layers: Vec<PostNormLayer> = (0..dims.layer_count).map(layer).collect();
        let info = EncoderInfo {
            target_modules: layers.iter().flat_map(PostNormLayer::target_modules).cloned().collect(),
            weights: reader.weights(prefix),
            prefix,
            hidden_size: dims.hidden,
            vocab_size: dims.vocab,
            max_positions: max_positions as usize,
        };
        PostNormEncoder { dims, info, layers }
    }

    /// The last layer's output, `[rows, length, hidden]`. `distances` gives a layer's relative embeddings, `scale` is the
    /// factor of the scores.
    ///
    /// Inside, rows and length are one dimension, so that every linear is a plain product. Fused layers may leave
    /// padding out of it; they are used where nothing observes the layers.
    pub fn encode(
        &self,
        embedded: &Tensor,
        batch: &TokenBatch,
        scale: f64,
        pass: Pass,
        distances: impl Fn(usize) -> Option<Distances>,
        observe: LayerObserver,
    ) -> Tensor {
        let size = embedded.size();
        let x = embedded.reshape([-1, self.dims.hidden]);
        let input = |index: usize| LayerInput { distances: distances(index), scale, pass };
        let layers = self.layers.iter().enumerate();
        let last = match (self.fused_branches(&x, pass), observe) {
            (Some(branches), None) => {
                let layout = match batch.token_capacity {
                    Some(capacity) => TokenLayout::packed(&batch.attention_mask, capacity),
                    None => TokenLayout::padded(additive_mask(&batch.attention_mask, x.kind())),
                };
                let next = |x: Tensor, ((index, layer), branches): ((usize, &PostNormLayer), &Branches)| {
                    layer.forward_fused(&x, &input(index), branches, &layout)
                };
                layout.unpack(&layers.zip(&branches).fold(layout.pack(&x), next))
            }
            (_, mut observe) => {
                let mask = additive_mask(&batch.attention_mask, x.kind());
                layers.fold(x, |x, (index, layer)| {
                    let x = layer.forward(&x, &input(index), &mask);
                    if let Some(observe) = &mut observe {
                        observe(&x.view(size.as_slice()));
                    }
                    x
                })
            }
        };
        last.view(size.as_slice())
    }

    /// Whether layers are fused in such a pass, and may leave padding out.
    pub fn packs(&self, pass: Pass) -> bool {
        let kind = self.info.weights.first().map(|(_, weight)| (weight.kind(), weight.device()));
        kind.is_some_and(|like| self.fused_branches(&Tensor::empty([0, self.dims.hidden], like), pass).is_some())
    }

    /// Branches of every layer, where all layers can be fused.
    fn fused_branches<'a>(&self, x: &Tensor, pass: Pass<'a>) -> Option<Vec<Branches<'a>>> {
        let branches: Option<Vec<Branches>> = self.layers.iter().map(|layer| layer.branches(pass)).collect();
        let is_supported =
            |branches: &Branches| encoder_layer::supports(x, self.dims.heads, &branches.map(|branch| branch.factors()));
        branches.filter(|branches| branches.iter().all(is_supported))
    }

    /// [`PostNormEncoder::encode`] with plain self-attention.
    pub fn self_attention(&self, embedded: &Tensor, batch: &TokenBatch, pass: Pass, observe: LayerObserver) -> Tensor {
        let scale = ((self.dims.hidden / self.dims.heads) as f64).sqrt().recip();
        self.encode(embedded, batch, scale, pass, |_| None, observe)
    }

    /// Dropout of the embeddings `[runs * rows, length, hidden]`.
    pub fn drop_embeddings(&self, x: &Tensor, pass: Pass) -> Tensor {
        pass.dropout(streams::EMBEDDINGS, self.dims.dropout).hidden(x, x.size()[1], 0)
    }
}
