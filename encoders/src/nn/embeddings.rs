//! BERT's embeddings: token, segment and absolute position, summed and normalised.

use tch::Tensor;

use crate::checkpoint::reader::Reader;
use crate::nn::dims::Dims;
use crate::nn::modules::{Embedding, LayerNorm};
use crate::pass::{Pass, TokenBatch};

/// Tables of `width` values a row below `embeddings.`.
pub(crate) struct BertEmbeddings {
    word: Embedding,
    position: Embedding,
    token_type: Embedding,
    norm: LayerNorm,
}

impl BertEmbeddings {
    /// Takes the tables, with `types` segments.
    pub fn read(reader: &Reader, dims: &Dims, width: i64, types: i64) -> Self {
        BertEmbeddings {
            word: Embedding::read(reader, "embeddings.word_embeddings", [dims.vocab, width]),
            position: Embedding::read(reader, "embeddings.position_embeddings", [dims.positions, width]),
            token_type: Embedding::read(reader, "embeddings.token_type_embeddings", [types, width]),
            norm: LayerNorm::read(reader, "embeddings.LayerNorm", width, dims.eps, true),
        }
    }

    /// The normalised sum, `[rows, length, width]`.
    pub fn forward(&self, batch: &TokenBatch, pass: Pass) -> Tensor {
        let length = batch.input_ids.size()[1];
        let sum = self.word.lookup(&batch.input_ids, pass)
            + self.token_type.lookup(&batch.token_type_ids, pass)
            + self.position.0.of(pass).narrow(0, 0, length);
        self.norm.forward(&sum, pass)
    }
}
