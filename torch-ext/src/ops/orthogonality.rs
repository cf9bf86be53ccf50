//! AdaLoRA's distance of components from orthonormal ones (spec §2.2).

use std::ffi::c_int;

use tch::{Kind, Tensor};

use crate::error::{as_ptr, out_tensor};
use crate::ffi::Kernels;
use crate::nvrtc;

unsafe extern "C" {
    fn rb_max_gram_rank() -> c_int;
}

/// Largest rank that the kernels take.
fn max_rank() -> i64 {
    // SAFETY: a plain integer crosses.
    unsafe { rb_max_gram_rank() }.into()
}

/// A `[.., k, r, d_in]` and B `[.., k, d_out, r]` of the modules of a shape; all shapes have as many runs in front, or none.
pub type Factors<'a> = [&'a Tensor; 2];

/// `||M M^T - I||_F` of all A and `||M^T M - I||_F` of all B, `[.., matrices]`.
pub fn gram_distances(shapes: &[Factors]) -> Tensor {
    let kernels =
        shapes.first().and_then(|[a, _]| nvrtc::float32_kernels(a).filter(|_| a.size()[a.dim() - 2] <= max_rank()));
    match kernels {
        Some(kernels) => by_kernels(kernels, shapes),
        None => reference(shapes),
    }
}

fn by_kernels(kernels: &Kernels, shapes: &[Factors]) -> Tensor {
    let has_runs = shapes.iter().flatten().any(|x| x.dim() > 3);
    let stacks: Vec<Tensor> =
        shapes.iter().flatten().map(|x| if has_runs { x.shallow_clone() } else { x.unsqueeze(0) }).collect();
    let tensors: Vec<_> = stacks.iter().map(as_ptr).collect();
    // SAFETY: as many tensors as are said; they outlive the call.
    let distances = out_tensor(|out| {
        kernels.check(unsafe { (kernels.gram_distance)(tensors.as_ptr(), tensors.len() as c_int, out) })
    });
    if has_runs { distances } else { distances.squeeze_dim(0) }
}

fn reference(shapes: &[Factors]) -> Tensor {
    let gram = |rows: &Tensor| rows.matmul(&rows.transpose(-2, -1));
    let grams = shapes.iter().flat_map(|[a, b]| [gram(a), gram(&b.transpose(-2, -1))]);
    let grams = Tensor::cat(&grams.collect::<Vec<_>>(), -3);
    let eye = Tensor::eye(grams.size()[grams.dim() - 1], (grams.kind(), grams.device()));
    (grams - eye).square().sum_dim_intlist([-2, -1].as_slice(), false, None::<Kind>).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::{in_every_schedule, random};

    /// Distances and gradients of a shape with 3 modules and one with 1, of flat parameters.
    fn results(flat: &Tensor, (rank, runs): (i64, Option<i64>), kernels: Option<&Kernels>) -> [Tensor; 2] {
        let flat = flat.detach().copy().set_requires_grad(true);
        let runs: Vec<i64> = runs.into_iter().collect();
        let sizes = [[3, rank, 150], [3, 70, rank], [1, rank, 64], [1, 129, rank]];
        let parts = flat.split_with_sizes(sizes.map(|size| size.iter().product::<i64>()), -1);
        let views: Vec<Tensor> =
            parts.iter().zip(sizes).map(|(part, size)| part.view([&runs[..], &size].concat().as_slice())).collect();
        let shapes = [[&views[0], &views[1]], [&views[2], &views[3]]];
        let distances = kernels.map_or_else(|| reference(&shapes), |kernels| by_kernels(kernels, &shapes));
        let weights = Tensor::arange(distances.numel() as i64, (Kind::Float, flat.device())).view_as(&distances) + 1.0;
        (&distances * weights).sum(None::<Kind>).backward();
        [distances.detach(), flat.grad()]
    }

    #[test]
    fn the_kernels_compute_what_the_reference_computes() {
        in_every_schedule(|kernels| {
            for (rank, runs) in [(1, None), (12, Some(2)), (max_rank(), Some(1))] {
                let count = (3 * (150 + 70) + 64 + 129) * rank;
                let flat = random(&[runs.as_slice(), &[count]].concat()) * 0.2;
                let [want, got] = [None, Some(kernels)].map(|kernels| results(&flat, (rank, runs), kernels));
                for (want, got) in want.iter().zip(&got) {
                    assert_eq!(got.size(), want.size());
                    let error = ((got - want).abs().max() / want.abs().max()).double_value(&[]);
                    assert!(error < 1e-5, "rank {rank}, {runs:?} runs: {error:.1e}");
                }
            }
        });
    }
}
