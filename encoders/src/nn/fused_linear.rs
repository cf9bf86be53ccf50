//! Linears with one input as one linear.

use tch::Tensor;
use torch_ext::ops::encoder_layer::{AugmentedLinear, reserved};
use torch_ext::ops::lora_linear::lora_linear;

use crate::checkpoint::reader::Reader;
use crate::nn::modules::{Linear, Weight};
use crate::target::LowRank;

/// Weights and biases of linears with one input, concatenated, with the reserved rows and columns of
/// [`torch_ext::ops::encoder_layer::reserved`] behind the weight.
pub(crate) struct FusedLinear {
    augmented: Tensor,
    bias: Tensor,
    reserved: i64,
}

impl FusedLinear {
    /// The weights and biases of `linears` become views of the fused ones.
    pub fn fuse(reader: &Reader, linears: &mut [Linear]) -> Self {
        let (device, kind) = reader.options();
        let reserved = reserved(linears.len(), device, kind);
        let mut fuse = |part: fn(&mut Linear) -> &mut Weight, reserved: i64| {
            let mut parts: Vec<&mut Weight> = linears.iter_mut().map(part).collect();
            let indices: Vec<usize> = parts.iter().filter_map(|part| part.index).collect();
            let (fused, views) = reader.fuse(&indices, reserved);
            parts.iter_mut().zip(views).for_each(|(part, view)| part.tensor = view);
            fused
        };
        FusedLinear {
            augmented: fuse(|linear| &mut linear.weight, reserved),
            bias: fuse(|linear| &mut linear.bias, 0),
            reserved,
        }
    }

    fn weight(&self) -> Tensor {
        let size = self.augmented.size();
        self.augmented.narrow(0, 0, size[0] - self.reserved).narrow(1, 0, size[1] - self.reserved)
    }

    /// The frozen linear of `x` `[tokens, d_in]` with one branch for all its outputs.
    pub fn adapted(&self, x: &Tensor, branch: LowRank) -> Tensor {
        lora_linear(x, [&self.weight(), &self.bias], branch.factors())
    }

    /// The linear as an argument of a fused layer.
    pub fn augmented<'a>(&'a self, branch: LowRank<'a>) -> AugmentedLinear<'a> {
        AugmentedLinear { augmented: &self.augmented, bias: &self.bias, branch: branch.factors() }
    }
}
