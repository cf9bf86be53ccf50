//! Demands on every registered method on every registered encoder (docs/design.md §4), on a tiny random model. A new method,
//! example of its options, or encoder is picked up from its registry.

mod files;
mod model;
mod parts;
mod state;

use encoders::{Frozen, TargetModule};
use methods::method::{module_gates, nonzero_gates};
use methods::optim::params::Group;
use methods::{Counts, LoraLayer, LoraLayers};
use model::{STEPS, each_module, error, everywhere, task_loss};
use tch::{Device, Kind, Tensor};

const TOLERANCE: f64 = 1e-5;
/// Two ways to the same product: MKL rounds by the alignment of its operands.
const ROUNDING: f64 = 1e-7;

#[test]
fn at_step_0_nothing_is_added() {
    everywhere(|model| {
        let views = model.step.params().views();
        let adapters = model.adapters(&views);
        for (module, adapter) in each_module(&model, &adapters) {
            let largest = adapter.delta().abs().max().double_value(&[]);
            assert!(largest <= ROUNDING, "{} at {}: {largest:e}", model.title, module.path);
        }
        let attached = model.attached(&views);
        let logits = model.logits(&views, attached.as_ref());
        // PiSSA's branch is the difference of two equal products; its rounding grows from layer to layer.
        let off = error(&logits, &model.logits(&views, &Frozen));
        assert!(off <= 10.0 * ROUNDING, "{}: {off:e}", model.title);
    });
}

#[test]
fn gradients_reach_what_is_declared_and_nothing_else() {
    everywhere(|mut model| {
        let before: Vec<(String, Tensor)> =
            model.encoder.info().weights.iter().map(|(name, w)| (name.clone(), w.copy())).collect();
        let groups: Vec<Tensor> = model.step.params().groups().iter().map(|g| g.flat.detach().copy()).collect();
        model.train(4);
        for ((name, was), (_, is)) in before.iter().zip(&model.encoder.info().weights) {
            assert!(!is.requires_grad() && !is.grad().defined(), "{}: {name} is trained", model.title);
            assert_eq!(error(is, was), 0.0, "{}: {name} moved", model.title);
        }
        for (group, was) in model.step.params().groups().iter().zip(groups) {
            assert!(error(&group.flat.detach(), &was) > 0.0, "{}: {} stood still", model.title, group.kind.name);
        }
    });
}

/// Adds up |gradient| by parameter over a few steps: every value that the inputs reach moves the loss.
#[test]
fn every_trained_value_receives_a_gradient() {
    everywhere(|mut model| {
        let zeros = |group: &Group| group.flat.detach().zeros_like();
        let mut moved: Vec<Tensor> = model.step.params().groups().iter().map(zeros).collect();
        for _ in 0..4 {
            let views = model.step.params().views();
            let logits = model.logits(&views, model.attached(&views).as_ref());
            let (total, _) = model.step.loss(&task_loss(&logits), &views);
            total.backward();
            for (sum, group) in moved.iter_mut().zip(model.step.params().groups()) {
                let _ = sum.g_add_(&group.flat.grad().abs());
            }
            let _norm = model.step.update().unwrap();
            model.step.advance();
        }
        // Embeddings of ids, positions and distances that no row has stand still, and softmax cancels a key's bias.
        let is_partly = |name: &str| {
            let is_table = name.contains("_embeddings") || name.contains("embeddings.weight");
            is_table || name.ends_with("key.bias") || name.ends_with("key_proj.bias")
        };
        for (name, kind, range) in model.step.params().places() {
            let at = model.step.params().groups().iter().position(|group| group.kind == kind).unwrap();
            let values = moved[at].narrow(0, range.start, range.end - range.start);
            let least = if is_partly(name) { values.max() } else { values.min() };
            assert!(least.double_value(&[]) > 0.0, "{}: {name} has a value without gradient", model.title);
        }
    });
}

#[test]
fn a_parameter_without_gradient_is_an_error_at_the_first_step() {
    everywhere(|mut model| {
        let views = model.step.params().views();
        // The head's last bias is left out of the loss.
        let mut head = model.head(&views);
        let last = head.len() - 1;
        head[last] = head[last].detach();
        let logits = model.logits_with(&head, model.attached(&views).as_ref());
        let message = model.step.apply(&logits.square().sum(Kind::Float), &views).err().unwrap().to_string();
        let name = model.step.params().name(model.head[last]);
        assert!(message.contains(name) && message.contains("no gradient at step 0"), "{}: {message}", model.title);
    });
}

#[test]
fn a_branch_is_the_product_with_delta() {
    everywhere(|mut model| {
        model.train(5);
        let adapters = model.adapters(&model.step.params().views());
        for (module, adapter) in each_module(&model, &adapters) {
            let x = Tensor::randn([3, module.d_in], (Kind::Float, Device::Cpu));
            let product = x.matmul(&adapter.delta().transpose(0, 1));
            assert!(error(&adapter.branch(&x), &product) <= TOLERANCE, "{} at {}", model.title, module.path);
        }
    });
}

#[test]
fn counts_equal_the_closed_formulas() {
    everywhere(|mut model| {
        let head = model.encoder.new_head(2, 0).params.iter().map(|param| param.init.numel() as i64).sum::<i64>();
        let counts = model.step.method().counts(model.step.params());
        assert_eq!(counts.allocated + head, model.step.params().numel(), "{}", model.title);
        let views = model.step.params().views();
        let attached = model.attached(&views);
        let weights = model.encoder.info().weights.iter().enumerate();
        let replaced = weights.filter(|(index, _)| attached.weight(*index).is_some());
        let replaced: i64 = replaced.map(|(_, (_, weight))| weight.numel() as i64).sum();
        let adapters = model.adapters(&views);
        if each_module(&model, &adapters).next().is_none() {
            // Bottlenecks have their formula in tests/counts.rs.
            let trained = if replaced > 0 { replaced } else { counts.allocated };
            assert_eq!(counts, Counts::dense(trained), "{}", model.title);
            return;
        }
        let values = |tensor: &Option<Tensor>| tensor.as_ref().map_or(0, |tensor| tensor.numel() as i64);
        let count = |of: fn(&LoraLayer) -> i64| -> i64 {
            let of_module = |(s, a): (&TargetModule, &LoraLayer)| of(a) * (s.d_in + s.d_out) + values(&a.magnitude);
            each_module(&model, &adapters).map(of_module).sum::<i64>() + replaced
        };
        let gates: i64 = each_module(&model, &adapters).map(|(_, adapter)| values(&adapter.gate)).sum();
        assert_eq!(counts.allocated, count(LoraLayer::max_rank) + gates, "{}", model.title);
        model.train(STEPS);
        let adapters = model.adapters(&model.step.params().views());
        let left = |(s, a): (&TargetModule, &LoraLayer)| a.rank() * (s.d_in + s.d_out) + values(&a.magnitude);
        let left: i64 = each_module(&model, &adapters).map(left).sum();
        assert_eq!(model.step.method().counts(model.step.params()).effective, left + replaced, "{}", model.title);
    });
}

#[test]
fn published_gates_are_those_of_the_adapters() {
    everywhere(|mut model| {
        model.train(STEPS);
        let (method, params) = (model.step.method(), model.step.params());
        let adapters = model.adapters(&params.views());
        let gated = || each_module(&model, &adapters).filter_map(|(module, a)| Some((module, a, a.gate.as_ref()?)));
        let published: usize = method.gates(params).iter().map(Tensor::numel).sum();
        assert_eq!(published, gated().map(|(_, _, gate)| gate.numel()).sum::<usize>(), "{}", model.title);
        let left = nonzero_gates(method, params).map(|count| count.int64_value(&[]));
        let ranks = gated().map(|(_, adapter, _)| adapter.rank()).reduce(|all, rank| all + rank);
        assert_eq!(left, ranks, "{}", model.title);
        let read: Vec<(String, Vec<f32>)> =
            module_gates(method, params).unwrap().into_iter().map(|gates| (gates.module, gates.values)).collect();
        let values = |gate: &Tensor| Vec::<f32>::try_from(gate.detach().to_kind(Kind::Float)).unwrap();
        let expected: Vec<_> = gated().map(|(module, _, gate)| (module.path.clone(), values(gate))).collect();
        assert_eq!(read, expected, "{}", model.title);
    });
}

#[test]
fn rank_0_is_legal_everywhere() {
    everywhere(|mut model| {
        model.train(3);
        let views = model.step.params().views();
        let mut adapters = LoraLayers::new(model.adapters(&views).modules);
        for adapter in adapters.modules.iter_mut().flatten() {
            // Methods with a gate reach rank 0 through it, LoRA by having no component.
            let (a, b) = (adapter.a.shallow_clone(), adapter.b.shallow_clone());
            *adapter = match &adapter.gate {
                Some(gate) => LoraLayer::new(a, b, Some(gate.zeros_like()), adapter.scale),
                None => LoraLayer::new(a.narrow(0, 0, 0), b.narrow(1, 0, 0), None, adapter.scale),
            };
            assert_eq!((adapter.rank(), adapter.to_lora().rank()), (0, 0), "{}", model.title);
        }
        let frozen = model.logits(&views, &Frozen);
        // A linear with a branch and one without round in other places: 1.04e-7 without AVX-512.
        let off = error(&model.logits(&views, &adapters), &frozen);
        assert!(off <= 2.0 * ROUNDING, "{}: {off:e}", model.title);
    });
}
