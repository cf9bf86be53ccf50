//! Reading golden cases, and the small net they were made with: `l2(tanh(l1(tanh(l0(x)))))`, every `l` an adapted
//! linear.
#![allow(dead_code, unused_imports)] // Every test binary uses its own part.

pub mod case;
pub mod training;

pub use case::{Case, cases, floats};
use encoders::nn::modules::low_rank_linear;
use encoders::pass::streams;
use encoders::{Attach, ModuleKind, TargetModule};
use methods::adapter::pissa::PrincipalComponents;
use methods::optim::config::{DecayOrder, LinearSchedule};
use methods::optim::params::ParamsBuilder;
use methods::{Context, LoraLayer, LoraLayers, Method, OptimConfig, TrainState};
use tch::{Device, Kind, Reduction, Tensor};
use torch_ext::ops::dropout::{Dropout, DropoutRng};

/// Largest allowed error in float32, relative to the largest magnitude of the compared tensor.
pub const TOLERANCE: f64 = 1e-5;
/// The same in float64.
pub const TOLERANCE_64: f64 = 1e-9;

/// The frozen net of a case.
pub struct Net {
    pub modules: Vec<TargetModule>,
    weights: Vec<(Tensor, Tensor)>,
}

impl Net {
    pub fn new(case: &Case, kind: Kind) -> Self {
        let dims = case.dims();
        let weights = (0..dims.len() - 1)
            .map(|i| {
                let read = |part| case.tensor(&format!("base.l{i}.{part}")).to_kind(kind);
                (read("weight"), read("bias"))
            })
            .collect();
        Net { modules: modules(&dims), weights }
    }

    pub fn forward(&self, x: &Tensor, attach: &dyn Attach) -> Tensor {
        self.forward_step(x, attach, None)
    }

    /// In a training step, with the dropout of the branches' inputs where there are numbers for it.
    pub fn forward_step(&self, x: &Tensor, attach: &dyn Attach, rng: Option<&DropoutRng>) -> Tensor {
        let (weight, bias) = &self.weights[self.weights.len() - 1];
        self.forward_in(x, attach, [weight, bias], rng)
    }

    /// With other values of the last linear.
    pub fn forward_to(&self, x: &Tensor, attach: &dyn Attach, last: [&Tensor; 2]) -> Tensor {
        self.forward_in(x, attach, last, None)
    }

    fn forward_in(&self, x: &Tensor, attach: &dyn Attach, last: [&Tensor; 2], rng: Option<&DropoutRng>) -> Tensor {
        let mut x = x.shallow_clone();
        let count = self.modules.len();
        for (module, (weight, bias)) in self.modules.iter().zip(&self.weights) {
            let [weight, bias] = if module.index + 1 < count { [weight, bias] } else { last };
            let bias = attach.weight(count + module.index).unwrap_or(bias);
            let y = match attach.low_rank(module) {
                Some(branch) => {
                    let dropout = Dropout { rng, stream: streams::of_branch(module.index), p: branch.dropout };
                    let dropped = rng.map(|_| dropout.hidden(&x, 1, 0));
                    low_rank_linear(&x, [weight, bias], branch, dropped.as_ref())
                }
                None => attach.output(module, &x, x.linear(weight, Some(bias))),
            };
            x = if module.index + 1 < count { y.tanh() } else { y };
        }
        x
    }

    pub fn weight(&self, i: usize) -> &Tensor {
        &self.weights[i].0
    }
}

pub fn modules(dims: &[i64]) -> Vec<TargetModule> {
    let module = |(i, pair): (usize, &[i64])| TargetModule {
        index: i,
        path: format!("l{i}"),
        kind: ModuleKind::Output,
        layer: i,
        d_in: pair[0],
        d_out: pair[1],
        weight: i,
    };
    dims.windows(2).enumerate().map(module).collect()
}

pub fn loss(case: &Case, logits: &Tensor, labels: &Tensor) -> Tensor {
    match case.config("loss").as_str().unwrap() {
        "mse" => logits.mse_loss(&labels.to_kind(logits.kind()), Reduction::Mean),
        "ce" => logits.cross_entropy_loss::<&Tensor>(labels, None, Reduction::Mean, -100, 0.0),
        other => panic!("{}: unknown loss {other}", case.name()),
    }
}

/// Rows of step `t`.
pub fn batch(case: &Case, t: usize, kind: Kind) -> (Tensor, Tensor) {
    let index = case.tensor("data.batch_index").get(t as i64);
    let x = case.tensor("data.X").index_select(0, &index).to_kind(kind);
    (x, case.tensor("data.Y").index_select(0, &index))
}

pub fn protocol(case: &Case, order: DecayOrder) -> OptimConfig {
    let total = case.count("sched_total");
    let (warmup, gate_warmup) = match case.config("warmup_ratio").as_f64() {
        Some(ratio) => ((ratio * total as f64).ceil() as usize, (ratio * total as f64) as usize),
        None => (case.count("warmup"), case.count("warmup")),
    };
    OptimConfig {
        lr: case.number("lr"),
        weight_decay: case.number("weight_decay"),
        decay_order: order,
        max_grad_norm: case.number("max_grad_norm"),
        steps: case.count("steps"),
        schedule: LinearSchedule { warmup, total, ..LinearSchedule::default() },
        gate_schedule: LinearSchedule { warmup: gate_warmup, total, ..LinearSchedule::default() },
    }
}

/// A step whose adapters start at the case's `init.*`.
pub fn step<M: Method + 'static>(
    case: &Case,
    protocol: &OptimConfig,
    kind: Kind,
    hidden_size: i64,
    new: impl FnOnce(&Context, &mut ParamsBuilder) -> methods::Result<M>,
) -> TrainState {
    let step = untouched_step(case, protocol, kind, hidden_size, new);
    write(case, "init", &adapters(&step));
    step
}

/// A step whose adapters start as the method makes them.
pub fn untouched_step<M: Method + 'static>(
    case: &Case,
    protocol: &OptimConfig,
    kind: Kind,
    hidden_size: i64,
    new: impl FnOnce(&Context, &mut ParamsBuilder) -> methods::Result<M>,
) -> TrainState {
    let modules = modules(&case.dims());
    step_at(case, protocol, kind, (&modules, hidden_size), new)
}

/// [`untouched_step`] with adapters at some of the modules.
pub fn step_at<M: Method + 'static>(
    case: &Case,
    protocol: &OptimConfig,
    kind: Kind,
    (modules, hidden_size): (&[TargetModule], i64),
    new: impl FnOnce(&Context, &mut ParamsBuilder) -> methods::Result<M>,
) -> TrainState {
    let boxed = |context: &Context, params: &mut ParamsBuilder| Ok(Box::new(new(context, params)?) as Box<dyn Method>);
    boxed_step_at(case, protocol, kind, (modules, hidden_size), boxed)
}

/// [`step_at`] for a method of the registry. The backbone's weights come first, then its biases.
pub fn boxed_step_at(
    case: &Case,
    protocol: &OptimConfig,
    kind: Kind,
    (modules, hidden_size): (&[TargetModule], i64),
    new: impl FnOnce(&Context, &mut ParamsBuilder) -> methods::Result<Box<dyn Method>>,
) -> TrainState {
    let count = case.dims().len() - 1;
    let named = |part: &'static str| {
        let name = move |i: usize| format!("l{i}.{part}");
        (0..count).map(move |i| (name(i), case.tensor(&format!("base.{}", name(i)))))
    };
    let backbone: Vec<(String, Tensor)> = named("weight").chain(named("bias")).collect();
    let context = Context {
        target_modules: modules,
        backbone: &backbone,
        components: &PrincipalComponents::default(),
        protocol,
        hidden_size,
        seed: 0,
    };
    let mut params = ParamsBuilder::new(Device::Cpu, kind);
    let method = new(&context, &mut params).unwrap();
    TrainState::new(params.finish(), method, protocol)
}

pub fn adapters(step: &TrainState) -> LoraLayers {
    tch::no_grad(|| step.method().adapters(&step.params().views()))
}

/// Adapters with the number of their linear.
pub fn attached(adapters: &LoraLayers) -> impl Iterator<Item = (usize, &LoraLayer)> {
    adapters.modules.iter().enumerate().filter_map(|(i, adapter)| Some((i, adapter.as_ref()?)))
}

pub fn write(case: &Case, prefix: &str, adapters: &LoraLayers) {
    tch::no_grad(|| {
        for (i, adapter) in attached(adapters) {
            let read = |part: &str| case.tensor(&format!("{prefix}.l{i}.{part}"));
            adapter.a.shallow_clone().copy_(&read("lora_A"));
            adapter.b.shallow_clone().copy_(&read("lora_B"));
            if let Some(magnitude) = &adapter.magnitude {
                magnitude.shallow_clone().copy_(&read("lora_magnitude_vector"));
            }
            if let Some(gate) = &adapter.gate {
                let part = if case.has(&format!("{prefix}.l{i}.gate")) { "gate" } else { "lora_E" };
                gate.shallow_clone().copy_(&read(part).view_as(gate));
            }
        }
    });
}

/// Compares every adapter with `<prefix>.l<i>.*` where the case has it.
pub fn assert_adapters(case: &Case, prefix: &str, adapters: &LoraLayers, tolerance: f64) {
    for (i, adapter) in attached(adapters) {
        let gate = adapter.gate.as_ref();
        let magnitude = ("lora_magnitude_vector", adapter.magnitude.as_ref());
        let parts =
            [("lora_A", Some(&adapter.a)), ("lora_B", Some(&adapter.b)), ("gate", gate), ("lora_E", gate), magnitude];
        for (part, value) in parts {
            let name = format!("{prefix}.l{i}.{part}");
            if let (Some(value), true) = (value, case.has(&name)) {
                assert_close(&format!("{} {name}", case.name()), value, &case.tensor(&name), tolerance);
            }
        }
    }
}

/// `max |got - want| <= tolerance * max(|want|, 1e-2)`.
pub fn assert_close(what: &str, got: &Tensor, want: &Tensor, tolerance: f64) {
    let (got, want) = (got.detach().to_kind(Kind::Double).flatten(0, -1), want.to_kind(Kind::Double).flatten(0, -1));
    assert_eq!(got.size(), want.size(), "{what}: size");
    if want.numel() == 0 {
        return;
    }
    let error = (&got - &want).abs().max().double_value(&[]);
    let magnitude = want.abs().max().double_value(&[]).max(1e-2);
    assert!(error <= tolerance * magnitude, "{what}: error {error:e} for values up to {magnitude:e}");
}

pub fn assert_scalar(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * want.abs().max(1e-2), "{what}: got {got:e}, expected {want:e}");
}

/// Steps at which the case has `<prefix>.<t>.*`.
pub fn recorded(case: &Case, prefix: &str) -> Vec<usize> {
    let mut steps: Vec<usize> = case
        .names()
        .filter_map(|name| name.strip_prefix(prefix)?.strip_prefix('.')?.split('.').next()?.parse().ok())
        .collect();
    steps.sort_unstable();
    steps.dedup();
    steps
}

/// Text of the panic that `work` must end in.
pub fn panic_text(work: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).expect_err("it passes");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).expect("the panic has a text")
}
