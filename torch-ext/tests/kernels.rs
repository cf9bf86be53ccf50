//! Every kernel on a GPU against its reference implementation on the CPU, forward and backward, with the same dropout.

use tch::{Device, Kind, Tensor};
use torch_ext::graph::Graph;
use torch_ext::nvrtc::Compiling;
use torch_ext::ops::adamw::{self, Clipped, Decay, Update, norms_and_factors};
use torch_ext::ops::attention::Attention;
use torch_ext::ops::dropout::{Dropout, DropoutRng};
use torch_ext::ops::encoder_layer::{AugmentedLinear, FusedLayer};
use torch_ext::ops::importance::{ScoredShape, scores};
use torch_ext::ops::norm::drop_add_norm;
use torch_ext::ops::orthogonality::gram_distances;
use torch_ext::token_layout::TokenLayout;

const GPU: Device = Device::Cuda(0);

/// Loads the kernels, and says whether there is a GPU for them.
fn has_gpu() -> bool {
    if !torch_ext::device::load_cuda() || !tch::Cuda::is_available() {
        eprintln!("skipped: this machine has no GPU");
        return false;
    }
    Compiling::begin(0).and_then(Compiling::load).unwrap();
    true
}

/// Output and gradients of `work` on both devices, for inputs that the GPU gets rounded to `kind`, compared value by value
/// relative to the largest.
fn compare(what: &str, kind: Kind, inputs: &[Tensor], bound: f64, work: impl Fn(&[Tensor], Device) -> Tensor) {
    let rounded: Vec<Tensor> = inputs.iter().map(|x| x.to_kind(kind)).collect();
    let results = |device: Device, kind: Kind| {
        let leaves: Vec<Tensor> =
            rounded.iter().map(|x| x.to_device(device).to_kind(kind).set_requires_grad(true)).collect();
        let out = work(&leaves, device);
        let factor =
            (Tensor::arange(out.numel() as i64, (Kind::Float, device)) * 0.7).sin().view(out.size().as_slice());
        (&out * factor.to_kind(kind)).sum(Kind::Float).backward();
        let grads = leaves.into_iter().filter(|leaf| leaf.grad().defined()).map(|leaf| leaf.grad());
        std::iter::once(out.detach())
            .chain(grads)
            .map(|x| x.to_device(Device::Cpu).to_kind(Kind::Double))
            .collect::<Vec<_>>()
    };
    let (got, want) = (results(GPU, kind), results(Device::Cpu, Kind::Float));
    assert_eq!(got.len(), want.len(), "{what}: gradients");
    for (index, (got, want)) in got.iter().zip(&want).enumerate() {
        let error = ((got - want).abs().max() / want.abs().max()).double_value(&[]);
        assert!(error <= bound, "{what} {kind:?}, result {index}: {error:.1e} of the largest value");
    }
}

fn random(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

fn dropout_rng(runs: i64, device: Device) -> DropoutRng {
    let seeds: Vec<i64> = (0..runs).map(|run| 1_234_567_890_123 * (run + 1)).collect();
    let rng = DropoutRng::new(&seeds, device);
    rng.advance();
    rng.begin_at(6);
    rng
}

const BOUNDS: [(Kind, f64); 2] = [(Kind::Float, 2e-6), (Kind::BFloat16, 1.5e-2)];

fn dropout() {
    for (kind, bound) in BOUNDS {
        for (runs, rows, length, width) in [(1, 2, 9, 16), (3, 4, 5, 384)] {
            compare("dropout", kind, &[random(&[runs * rows * length, width])], bound, |x, device| {
                let rng = dropout_rng(runs, device);
                Dropout { rng: Some(&rng), stream: 3, p: 0.1 }.hidden(&x[0], length, 7)
            });
        }
    }
}

fn linear_with_a_branch() {
    for (kind, bound) in BOUNDS {
        for (runs, tokens, [d_in, d_out], r) in [(1, 40, [64, 96], 8), (3, 24, [48, 32], 4)] {
            let (weight, bias) = (random(&[d_out, d_in]), random(&[d_out]));
            let leading: &[i64] = if runs == 1 { &[] } else { &[3] };
            let factors = [random(&[leading, &[r, d_in]].concat()), random(&[leading, &[d_out, r]].concat())];
            let inputs = [random(&[runs * tokens, d_in]), factors[0].shallow_clone(), factors[1].shallow_clone()];
            compare("lora_linear", kind, &inputs, bound, |x, device| {
                let frozen = [&weight, &bias].map(|part| part.to_kind(kind).to_device(device).to_kind(x[0].kind()));
                torch_ext::ops::lora_linear::lora_linear(&x[0], [&frozen[0], &frozen[1]], [&x[1], &x[2]])
            });
        }
    }
}

fn dropout_residual_and_layer_norm() {
    for (kind, bound) in BOUNDS {
        for (runs, rows, length, width) in [(1, 2, 9, 16), (2, 3, 5, 384), (1, 4, 40, 768), (1, 1, 3, 1024)] {
            let (weight, bias) = (random(&[width]), random(&[width]));
            let inputs = [random(&[runs * rows * length, width]), random(&[runs * rows * length, width])];
            compare(&format!("norm of {width}"), kind, &inputs, bound, |x, device| {
                let rng = dropout_rng(runs, device);
                let frozen = [&weight, &bias].map(|part| part.to_kind(kind).to_device(device).to_kind(x[0].kind()));
                let dropout = Dropout { rng: Some(&rng), stream: 5, p: 0.1 };
                drop_add_norm(&x[0], &x[1], [&frozen[0], &frozen[1]], 1e-7, dropout, length)
            });
        }
    }
}

fn attention() {
    for (kind, bound) in BOUNDS {
        for (runs, rows, heads, length, head, has_positions) in [
            (1, 2, 2, 64, 64, true),
            (2, 3, 2, 40, 64, true),
            (1, 2, 3, 136, 64, true),
            (3, 2, 2, 24, 64, false),
            (1, 3, 2, 200, 32, true),
            (2, 2, 2, 72, 32, false),
            (1, 9, 2, 128, 64, true),
            // Several rows a chunk, the last chunk short, and distances that begin between blocks of eight.
            (1, 17, 2, 139, 64, true),
            (2, 9, 2, 77, 32, true),
        ] {
            let tokens = runs * (rows + if has_positions { 2 } else { 0 }) * length;
            let inputs = [random(&[tokens, 3 * heads * head])];
            let ends = Tensor::arange(runs * rows, (Kind::Int64, Device::Cpu)).unsqueeze(1).remainder(5) + (length - 5);
            let is_token = Tensor::arange(length, (Kind::Int64, Device::Cpu)).unsqueeze(0).le_tensor(&ends);
            let mask = ((is_token.to_kind(Kind::Float) - 1.0) * 1e30).view([runs * rows, 1, 1, length]);
            compare(&format!("attention over {length} with heads of {head}"), kind, &inputs, bound, |x, device| {
                let rng = dropout_rng(runs, device);
                Attention {
                    projected: &x[0],
                    has_positions,
                    mask: &mask.to_device(device).to_kind(x[0].kind()),
                    heads,
                    scale: 0.1,
                    dropout: Dropout { rng: Some(&rng), stream: 9, p: 0.1 },
                }
                .context()
            });
        }
    }
}

fn clipping_adamw_and_importance() {
    for (decay, scale) in [(Decay::None, 1.0), (Decay::Before, 1e-3), (Decay::After, 1.0)] {
        // Moments from nothing, so that a rounded decay is seen.
        let start = [
            random(&[70_001]),
            random(&[70_001]) * scale,
            Tensor::zeros_like(&random(&[70_001])),
            Tensor::zeros_like(&random(&[70_001])),
        ];
        let table = Tensor::from_slice(&[0.5f32, 0.5, 0.5, 0.9, 0.1, 1.5]).view([2, 3]);
        let results = [Device::Cpu, GPU].map(|device| {
            let [values, grad, first, second] = start.each_ref().map(|x| x.copy().to_device(device));
            let both = norms_and_factors(&[Clipped { grads: vec![grad.copy(), &values * 2.0], bound: 10.0 }]);
            let update = Update {
                values: values.shallow_clone(),
                grad: grad.shallow_clone(),
                moments: [&first, &second].map(Tensor::shallow_clone),
                table: table.to_device(device),
                step: Tensor::from_slice(&[1i64]).to_device(device),
                factor: both.get(0).get(1),
                betas: [0.9, 0.999],
                eps: 1e-8,
                decay,
            };
            adamw::apply(&[update]).unwrap();
            [both, values, grad, first, second].map(|x| x.to_device(Device::Cpu))
        });
        for (index, (want, got)) in results[0].iter().zip(&results[1]).enumerate() {
            // Values near zero are differences of larger ones.
            let error = ((got - want).abs() / (want.abs() + want.abs().mean(None::<Kind>))).max().double_value(&[]);
            assert!(error < 5e-6, "{decay:?}, result {index}: {error:.1e}");
        }
    }
    let start = [0, 1, 2, 3].map(|_| random(&[70_001]));
    let averages = [Device::Cpu, GPU].map(|device| {
        let [values, grad, average, uncertainty] = start.each_ref().map(|x| x.copy().to_device(device));
        torch_ext::ops::importance::update([&values, &grad], [&average, &uncertainty], [0.85, 0.9]).unwrap();
        [average, uncertainty].map(|x| x.to_device(Device::Cpu))
    });
    for (want, got) in averages[0].iter().zip(&averages[1]) {
        assert!((got - want).abs().max().double_value(&[]) < 1e-6);
    }
    let broken = Tensor::from_slice(&[1.0f32, f32::NAN]).to_device(GPU);
    let broken = Clipped { grads: vec![broken], bound: 1.0 };
    assert!(norms_and_factors(&[broken]).isnan().all().int64_value(&[]) == 1);
}

fn distances_from_orthonormal_components_and_scores() {
    let inputs = [[3, 6, 12, 384], [3, 6, 1536, 12]].map(|size| random(&size) * 0.02);
    compare("gram_distances", Kind::Float, &inputs, 1e-5, |inputs, _| gram_distances(&[[&inputs[0], &inputs[1]]]));
    let shapes = [ScoredShape { starts: [0, 12 * 2 * 384, 12 * 2 * (384 + 1536)], modules: 2, widths: [384, 1536] }];
    let averages = [0, 1].map(|_| random(&[12 * 2 * (384 + 1536 + 1)]));
    let [want, got] = [Device::Cpu, GPU].map(|device| {
        let averages = averages.each_ref().map(|x| x.to_device(device));
        scores(averages.each_ref(), &shapes, 12).to_device(Device::Cpu)
    });
    assert!((got - want).abs().max().double_value(&[]) < 1e-5);
}

/// Products of three in float16 are as near to those of doubles as libtorch's own in float32 are.
fn float32_products() {
    for (tokens, [d_in, d_out], r, spread) in
        [(4096, [768, 3072], 8, 0.0), (300, [3072, 768], 8, 3.0), (129, [768, 768], 12, 6.0), (7, [36, 20], 4, 0.0)]
    {
        // Rows and columns of very different sizes, and a row of zeros.
        let wide = |shape: &[i64; 2], by: f64| random(shape) * (random(&[shape[0], 1]) * by).exp();
        let x = wide(&[tokens, d_in], spread) * (random(&[1, d_in]) * (spread / 3.0)).exp();
        let _ = x.get(0).zero_();
        let given =
            [x, wide(&[d_out, d_in], spread / 3.0) * 0.05, random(&[d_out]), random(&[r, d_in]), random(&[d_out, r])];
        let factor = wide(&[tokens, d_out], spread).to_device(GPU);
        let results = |kind: Kind, linear: &dyn Fn(&[Tensor]) -> Tensor| {
            let on_gpu: Vec<Tensor> = given.iter().map(|x| x.to_device(GPU).to_kind(kind)).collect();
            let x = on_gpu[0].set_requires_grad(true);
            let y = linear(&on_gpu);
            let grad = Tensor::run_backward(&[(&y * &factor.to_kind(kind)).sum(None::<Kind>)], &[&x], false, false);
            [y.detach(), grad[0].shallow_clone()].map(|x| x.to_kind(Kind::Double))
        };
        let plain = |t: &[Tensor]| t[0].linear(&t[1], Some(&t[2])) + t[0].matmul(&t[3].tr()).matmul(&t[4].tr());
        let want = results(Kind::Double, &plain);
        let libtorch = results(Kind::Float, &plain);
        let ours =
            results(Kind::Float, &|t| torch_ext::ops::lora_linear::lora_linear(&t[0], [&t[1], &t[2]], [&t[3], &t[4]]));
        for (index, name) in ["output", "gradient"].into_iter().enumerate() {
            // Relative to the sizes of what is summed, value by value.
            let error = |got: &Tensor| {
                let sizes = want[index].square().mean_dim(-1, true, None::<Kind>).sqrt() + 1e-300;
                let relative = (got - &want[index]).abs() / sizes;
                (relative.square().mean(None::<Kind>).sqrt().double_value(&[]), relative.max().double_value(&[]))
            };
            let ((ours, worst), (theirs, their_worst)) = (error(&ours[index]), error(&libtorch[index]));
            let what = format!("{name} of {tokens} x {d_in} -> {d_out}");
            eprintln!("{what}: {ours:.1e} (at most {worst:.1e}), libtorch's {theirs:.1e} ({their_worst:.1e})");
            // A sum of few large terms has the bits of its parts, 22 or 23, and not 24.
            let is_near = ours <= 2.0 * theirs && worst <= 6.0 * their_worst;
            assert!(is_near, "{name}: {ours:.1e} against {theirs:.1e}, at most {worst:.1e} against {their_worst:.1e}");
        }
    }
}

/// Frozen parts of a layer as the linears' weights and biases, and the LayerNorms.
struct Frozen {
    linears: Vec<[Tensor; 2]>,
    norms: Vec<[Tensor; 2]>,
}

impl Frozen {
    fn on(&self, x: &Tensor) -> Frozen {
        let moved = |pairs: &[[Tensor; 2]]| {
            let one = |pair: &[Tensor; 2]| {
                std::array::from_fn(|i| pair[i].to_kind(Kind::BFloat16).to_device(x.device()).to_kind(x.kind()))
            };
            pairs.iter().map(one).collect()
        };
        Frozen { linears: moved(&self.linears), norms: moved(&self.norms) }
    }
}

/// Sizes and options of a layer.
struct Shape {
    runs: i64,
    rows: i64,
    length: i64,
    heads: i64,
    head: i64,
    r: i64,
    has_positions: bool,
    drops: bool,
    /// Whether rows are packed.
    is_packed: bool,
}

/// A layer from the operations it is made of; `x` are its input and the branches' matrices.
fn layer_of_parts(
    x: &[Tensor],
    frozen: &Frozen,
    shape: &Shape,
    distances: Option<&Tensor>,
    mask: &Tensor,
    dropouts: [Dropout; 3],
) -> Tensor {
    let Shape { runs, length, heads, .. } = *shape;
    let branch = |site: usize| [&x[1 + 2 * site], &x[2 + 2 * site]];
    let linear = |site: usize, input: &Tensor| {
        torch_ext::ops::lora_linear::lora_linear(input, frozen.linears[site].each_ref(), branch(site))
    };
    let of_runs = |x: &Tensor| x.view([runs, -1, x.size()[1]]);
    let tokens = match distances {
        None => x[0].shallow_clone(),
        Some(distances) => Tensor::cat(&[of_runs(&x[0]), of_runs(distances)], 1).flatten(0, 1),
    };
    let context = Attention {
        projected: &linear(0, &tokens),
        has_positions: distances.is_some(),
        mask,
        heads,
        scale: 0.1,
        dropout: dropouts[0],
    };
    let norm = |index: usize, x: &Tensor, residual: &Tensor| {
        drop_add_norm(x, residual, frozen.norms[index].each_ref(), 1e-7, dropouts[1 + index], length)
    };
    let hidden = norm(0, &linear(1, &context.context()), &x[0]);
    norm(1, &linear(3, &linear(2, &hidden).gelu("none")), &hidden)
}

fn layer() {
    for (runs, rows, length, [heads, head], r, has_positions, drops) in [
        (1, 3, 40, [2, 64], 8, true, true),
        (2, 2, 24, [2, 64], 8, true, true),
        (3, 2, 17, [3, 32], 8, false, true),
        (1, 2, 130, [3, 32], 16, false, true),
        (1, 3, 70, [2, 64], 8, true, false),
        // Branches wider than what is reserved behind the weights, rows of several tiles, several rows a chunk.
        (3, 17, 150, [2, 64], 24, true, true),
    ] {
        for is_packed in [false, true] {
            one_layer(&Shape { runs, rows, length, heads, head, r, has_positions, drops, is_packed });
        }
    }
}

fn one_layer(shape: &Shape) {
    let Shape { runs, rows, length, heads, head, r, has_positions, drops, is_packed } = *shape;
    let (width, inner) = (heads * head, 2 * heads * head);
    let widths = [[width, 3 * width], [width, width], [width, inner], [inner, width]];
    let scaled = |shape: &[i64], by: f64| random(shape) * by;
    let frozen = Frozen {
        linears: widths.map(|[d_in, d_out]| [scaled(&[d_out, d_in], 0.1), random(&[d_out])]).into(),
        norms: (0..2).map(|_| [random(&[width]) + 1.0, random(&[width])]).collect(),
    };
    let leading: &[i64] = if runs == 1 { &[] } else { &[runs] };
    let mut inputs = vec![random(&[runs * rows * length, width])];
    for (site, [d_in, d_out]) in widths.into_iter().enumerate() {
        let r = if site == 0 { 3 * r } else { r };
        inputs.extend([[r, d_in], [d_out, r]].map(|shape| scaled(&[leading, &shape].concat(), 0.1)));
    }
    let distances = has_positions.then(|| random(&[runs * 2 * length, width]));
    // Rows of one token, of all, and of some.
    let ends: Vec<i64> = (0..runs * rows).map(|row| 1 + row * 37 % length).collect();
    let is_token = Tensor::arange(length, (Kind::Int64, Device::Cpu))
        .unsqueeze(0)
        .lt_tensor(&Tensor::from_slice(&ends).unsqueeze(1));
    let tokens = ends.iter().sum::<i64>() + 21;
    let what = format!("layer of {runs} runs over {length}, {}", if is_packed { "packed" } else { "padded" });
    compare(&what, Kind::BFloat16, &inputs, 4e-2, |x, device| {
        let like = |given: &Tensor| given.to_kind(Kind::BFloat16).to_device(device).to_kind(x[0].kind());
        let (rng, frozen) = (dropout_rng(runs, device), frozen.on(&x[0]));
        let dropouts = [1, 2, 3].map(|stream| Dropout { rng: drops.then_some(&rng), stream, p: 0.1 });
        let distances = distances.as_ref().map(like);
        let is_token = is_token.to_device(device);
        let mask = ((is_token.to_kind(x[0].kind()) - 1.0) * 1e30).view([runs * rows, 1, 1, length]);
        let out = if device.is_cuda() {
            let layout = match is_packed {
                true => TokenLayout::packed(&is_token.to_kind(Kind::Int64), tokens),
                false => TokenLayout::padded(mask),
            };
            let augmented: Vec<Tensor> =
                frozen.linears.iter().map(|[weight, _]| weight.constant_pad_nd([0, 64, 0, 64])).collect();
            let branches = [0, 1, 2, 3].map(|site| [&x[1 + 2 * site], &x[2 + 2 * site]]);
            let linears = std::array::from_fn(|site| AugmentedLinear {
                augmented: &augmented[site],
                bias: &frozen.linears[site][1],
                branch: branches[site],
            });
            let input = layout.pack(&x[0]);
            assert!(torch_ext::ops::encoder_layer::supports(&input, heads, &branches));
            let layer = FusedLayer {
                x: &input,
                distances: distances.as_ref(),
                layout: &layout,
                linears,
                norms: [frozen.norms[0].each_ref(), frozen.norms[1].each_ref()],
                eps: 1e-7,
                heads,
                scale: 0.1,
                dropouts,
            };
            layout.unpack(&layer.forward())
        } else {
            layer_of_parts(x, &frozen, shape, distances.as_ref(), &mask, dropouts)
        };
        // Padding is undefined.
        out * is_token.to_kind(x[0].kind()).view([-1, 1])
    });
}

/// A sum of ones captured and replayed.
fn captured_sum(length: i64) -> f64 {
    let x = Tensor::ones([length], (Kind::Float, GPU));
    let capture = Graph::capture(|| Ok::<_, torch_ext::Error>((&x * 2.0).sum(Kind::Float)));
    let (graph, sum) = capture.unwrap();
    graph.replay().unwrap();
    sum.double_value(&[])
}

/// A capture that breaks (an error, a read-back, no memory) must not reach the next one.
fn a_broken_capture_leaves_the_next_one_whole() {
    torch_ext::graph::enter(0).unwrap();
    assert_eq!(captured_sum(8), 16.0);
    torch_ext::device::reset_peak_memory(GPU).unwrap();
    let before = torch_ext::device::peak_memory(GPU).unwrap();
    let x = Tensor::ones([1 << 20], (Kind::Float, GPU));
    for round in 0..3 {
        let error = Graph::capture(|| {
            let _lost = &x * 3.0;
            Err::<(), _>(torch_ext::Error::Memory("injected".into()))
        });
        assert!(error.err().unwrap().to_string().contains("injected"));
        assert_eq!(captured_sum(8 + round), 16.0 + 2.0 * round as f64, "after an error");
        let read_back = || Graph::capture(|| Ok::<_, torch_ext::Error>((&x * 3.0).sum(Kind::Float).double_value(&[])));
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read_back));
        assert!(broken.is_err() || broken.is_ok_and(|capture| capture.is_err()), "a read-back cannot be captured");
        assert_eq!(captured_sum(8 + round), 16.0 + 2.0 * round as f64, "after a read-back");
        let too_much = || Graph::capture(|| Ok::<_, torch_ext::Error>(Tensor::zeros([1 << 42], (Kind::Float, GPU))));
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(too_much));
        assert!(broken.is_err() || broken.is_ok_and(|capture| capture.is_err()), "there is not that much memory");
        assert_eq!(captured_sum(8 + round), 16.0 + 2.0 * round as f64, "after running out of memory");
    }
    drop(x);
    torch_ext::device::reset_peak_memory(GPU).unwrap();
    assert_eq!(torch_ext::device::peak_memory(GPU).unwrap(), before, "something of the broken captures is still held");
}

/// One test: the kernels are loaded once, into the context of one thread.
#[test]
fn kernels_compute_what_plain_tensors_compute() {
    if has_gpu() {
        dropout();
        linear_with_a_branch();
        float32_products();
        dropout_residual_and_layer_norm();
        attention();
        clipping_adamw_and_importance();
        distances_from_orthonormal_components_and_scores();
        layer();
        a_broken_capture_leaves_the_next_one_whole();
    }
}
