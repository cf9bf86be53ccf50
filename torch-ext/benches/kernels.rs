//! Each operation, forward and backward, at the size of a DeBERTaV3-base layer: its kernels in bfloat16 where there is a GPU, its
//! reference implementation elsewhere. A GPU also runs a fused layer, and products in float32.

use criterion::{Criterion, criterion_group, criterion_main};
use tch::{Device, Kind, Tensor};
use torch_ext::nvrtc::Compiling;
use torch_ext::ops::adamw::{self, Clipped, Decay, Update, norms_and_factors};
use torch_ext::ops::attention::Attention;
use torch_ext::ops::dropout::{Dropout, DropoutRng};
use torch_ext::ops::encoder_layer::{AugmentedLinear, FusedLayer};
use torch_ext::ops::importance;
use torch_ext::ops::lora_linear::lora_linear;
use torch_ext::ops::norm::drop_add_norm;
use torch_ext::token_layout::TokenLayout;

const LENGTH: i64 = 128;
const WIDTH: i64 = 768;
const HEADS: i64 = 12;
const R: i64 = 8;

/// Device, kind and rows: a GPU gets the batch of the published timings, a CPU one that it can hold.
fn place() -> (Device, Kind, i64) {
    let has_gpu = torch_ext::device::load_cuda() && tch::Cuda::is_available();
    if has_gpu && Compiling::begin(0).and_then(Compiling::load).is_ok() {
        return (Device::Cuda(0), Kind::BFloat16, 32);
    }
    eprintln!("no GPU: the reference implementation on the CPU, 2 rows of {LENGTH}");
    (Device::Cpu, Kind::Float, 2)
}

/// Every row's second half is padding.
fn half(mask: &Tensor) -> Tensor {
    let _ = mask.narrow(1, LENGTH / 2, LENGTH / 2).zero_();
    mask.shallow_clone()
}

/// Tensors of a layer with position terms.
struct LayerOfBase {
    x: Tensor,
    distances: Tensor,
    linears: [[Tensor; 4]; 4],
    norm: [Tensor; 2],
}

impl LayerOfBase {
    fn new(drawn: &dyn Fn(&[i64]) -> Tensor, x: Tensor) -> Self {
        let linear = |[d_in, d_out, r]: [i64; 3]| {
            let reserved = r / R * 64;
            let [augmented, bias] = [drawn(&[d_out + reserved, d_in + reserved]) * 0.05, drawn(&[d_out])];
            let [lora_a, scaled_b] =
                [[r, d_in], [d_out, r]].map(|shape| (drawn(&shape) * 0.05).set_requires_grad(true));
            [augmented, bias, lora_a, scaled_b]
        };
        let widths = [[WIDTH, 3 * WIDTH, 3 * R], [WIDTH, WIDTH, R], [WIDTH, 4 * WIDTH, R], [4 * WIDTH, WIDTH, R]];
        let norm = [drawn(&[WIDTH]), drawn(&[WIDTH])];
        let distances = drawn(&[2 * LENGTH, WIDTH]);
        LayerOfBase { x: x.set_requires_grad(true), distances, linears: widths.map(linear), norm }
    }

    fn output(&self, layout: &TokenLayout, dropout: Dropout) -> Tensor {
        let linears = self.linears.each_ref().map(|[augmented, bias, lora_a, scaled_b]| AugmentedLinear {
            augmented,
            bias,
            branch: [lora_a, scaled_b],
        });
        let norms = [self.norm.each_ref(), self.norm.each_ref()];
        let (x, distances, dropouts) = (&self.x, Some(&self.distances), [dropout; 3]);
        FusedLayer { x, distances, layout, linears, norms, eps: 1e-7, heads: HEADS, scale: 0.07, dropouts }.forward()
    }
}

fn kernels(c: &mut Criterion) {
    let (device, kind, rows) = place();
    let rng = DropoutRng::new(&[1], device);
    let dropout = Dropout { rng: Some(&rng), stream: 1, p: 0.1 };
    let drawn = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, device)).to_kind(kind);
    let trained = |shape: &[i64]| drawn(shape).set_requires_grad(true);
    let tokens = rows * LENGTH;
    let mut bench = |name: &str, work: &dyn Fn() -> Tensor| {
        c.bench_function(&format!("{name}, {rows} x {LENGTH}, {kind:?}"), |b| {
            b.iter(|| {
                work().sum(Kind::Float).backward();
                torch_ext::device::synchronize(device).expect("a device that answers");
            });
        });
    };
    let x = trained(&[tokens, WIDTH]);
    bench("dropout", &|| dropout.hidden(&x, LENGTH, 0));
    let (residual, weight, bias) = (trained(&[tokens, WIDTH]), drawn(&[WIDTH]), drawn(&[WIDTH]));
    bench("dropout + residual + LayerNorm", &|| drop_add_norm(&x, &residual, [&weight, &bias], 1e-7, dropout, LENGTH));
    let (frozen, frozen_bias) = (drawn(&[WIDTH, WIDTH]), drawn(&[WIDTH]));
    let (lora_a, scaled_b) = (trained(&[R, WIDTH]), trained(&[WIDTH, R]));
    bench("linear with a branch of rank 8", &|| lora_linear(&x, [&frozen, &frozen_bias], [&lora_a, &scaled_b]));
    if device.is_cuda() {
        let float32 = |x: &Tensor| x.detach().to_kind(Kind::Float);
        let [x, lora_a, scaled_b] = [&x, &lora_a, &scaled_b].map(|x| float32(x).set_requires_grad(true));
        let frozen = [&frozen, &frozen_bias].map(float32);
        bench("the same in float32", &|| lora_linear(&x, frozen.each_ref(), [&lora_a, &scaled_b]));
        let mask = Tensor::ones([rows, LENGTH], (Kind::Int64, device));
        for (name, layout) in [
            ("layer", TokenLayout::padded(Tensor::zeros([rows, 1, 1, LENGTH], (kind, device)))),
            ("layer of tokens alone, half of them", TokenLayout::packed(&half(&mask), tokens / 2)),
        ] {
            let layer = LayerOfBase::new(&drawn, layout.pack(&drawn(&[tokens, WIDTH])));
            bench(name, &|| layer.output(&layout, dropout));
        }
    }
    for (name, has_positions) in [("attention", false), ("attention with position terms", true)] {
        let projected = trained(&[(rows + if has_positions { 2 } else { 0 }) * LENGTH, 3 * WIDTH]);
        let mask = Tensor::zeros([rows, 1, 1, LENGTH], (kind, device));
        bench(name, &|| {
            Attention { projected: &projected, has_positions, mask: &mask, heads: HEADS, scale: 0.07, dropout }
                .context()
        });
    }
    let [values, first, second] = [0, 1, 2].map(|_| Tensor::rand([2_000_000], (Kind::Float, device)));
    let table = Tensor::from_slice(&[1f32, 1e-3, 1.0]).view([1, 3]).to_device(device);
    let step = Tensor::zeros([1], (Kind::Int64, device));
    c.bench_function("importance of 2 million values", |b| {
        b.iter(|| {
            importance::update([&values, &values], [&first, &second], [0.85, 0.85]).expect("a device that answers");
            torch_ext::device::synchronize(device).expect("a device that answers");
        });
    });
    c.bench_function("clipping and AdamW of 2 million values", |b| {
        b.iter(|| {
            let grad = first.copy();
            let both = norms_and_factors(&[Clipped { grads: vec![grad.shallow_clone()], bound: 1.0 }]);
            adamw::apply(&[Update {
                values: values.shallow_clone(),
                grad,
                moments: [&first, &second].map(Tensor::shallow_clone),
                table: table.shallow_clone(),
                step: step.shallow_clone(),
                factor: both.get(0).get(1),
                betas: [0.9, 0.999],
                eps: 1e-8,
                decay: Decay::None,
            }])
            .expect("a device that answers");
            torch_ext::device::synchronize(device).expect("a device that answers");
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = kernels
}
criterion_main!(benches);
