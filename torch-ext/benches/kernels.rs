//! Each function of ours, forward and backward, at the size of a DeBERTaV3-base layer: on a GPU in bfloat16 where there is one,
//! with its plain-tensor twin elsewhere.

use criterion::{Criterion, criterion_group, criterion_main};
use tch::{Device, Kind, Tensor};
use torch_ext::adamw::{Decay, Update, norm_and_factor};
use torch_ext::attention::Attention;
use torch_ext::dropout::{Dropout, Randomness};
use torch_ext::linear::adapted;
use torch_ext::norm::drop_add_norm;

const LENGTH: i64 = 128;
const WIDTH: i64 = 768;
const HEADS: i64 = 12;
const R: i64 = 8;

/// Where, in which kind, and how many rows: a GPU gets the batch of the published timings, a CPU one that it can hold.
fn place() -> (Device, Kind, i64) {
    let has_gpu = torch_ext::load_cuda() && tch::Cuda::is_available();
    if has_gpu && torch_ext::kernels::load(0).is_ok() {
        return (Device::Cuda(0), Kind::BFloat16, 32);
    }
    eprintln!("no GPU: the plain-tensor twins on the CPU, 2 rows of {LENGTH}");
    (Device::Cpu, Kind::Float, 2)
}

fn kernels(c: &mut Criterion) {
    let (device, kind, rows) = place();
    let random = Randomness::new(&[1], device);
    let dropout = Dropout { random: Some(&random), place: 1, rate: 0.1 };
    let drawn = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, device)).to_kind(kind);
    let trained = |shape: &[i64]| drawn(shape).set_requires_grad(true);
    let lines = rows * LENGTH;
    let mut bench = |name: &str, work: &dyn Fn() -> Tensor| {
        c.bench_function(&format!("{name}, {rows} x {LENGTH}, {kind:?}"), |b| {
            b.iter(|| {
                work().sum(Kind::Float).backward();
                torch_ext::synchronize(device).expect("a device that answers");
            });
        });
    };
    let x = trained(&[lines, WIDTH]);
    bench("dropout", &|| dropout.hidden(&x, LENGTH, 0));
    let (residual, weight, bias) = (trained(&[lines, WIDTH]), drawn(&[WIDTH]), drawn(&[WIDTH]));
    bench("dropout + residual + LayerNorm", &|| drop_add_norm(&x, &residual, [&weight, &bias], 1e-7, dropout, LENGTH));
    let (frozen, frozen_bias) = (drawn(&[WIDTH, WIDTH]), drawn(&[WIDTH]));
    let (a, up) = (trained(&[R, WIDTH]), trained(&[WIDTH, R]));
    bench("linear with a branch of rank 8", &|| adapted(&x, [&frozen, &frozen_bias], [&a, &up]));
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
    c.bench_function("clipping and AdamW of 2 million values", |b| {
        b.iter(|| {
            let grad = first.copy();
            let both = norm_and_factor(&[grad.shallow_clone()], 1.0);
            let moments = [&first, &second];
            let (betas, decay, factor) = ([0.9, 0.999], Decay::None, &both.get(1));
            Update {
                values: &values,
                grad: &grad,
                moments,
                table: &table,
                step: &step,
                factor,
                betas,
                eps: 1e-8,
                decay,
            }
            .apply()
            .expect("a device that answers");
            torch_ext::synchronize(device).expect("a device that answers");
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = kernels
}
criterion_main!(benches);
