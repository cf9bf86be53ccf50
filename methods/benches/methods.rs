//! Forward and backward of each method, a whole training step on the encoder of the conformance tests' shape
//! scaled up, the threshold on the gates, and AdaLoRA's allocation. `cargo bench -p methods`.

use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use encoders::{Config, Encoder, Pass, TokenBatch};
use methods::adapter::pissa::PrincipalComponents;
use methods::method::MethodEntry;
use methods::optim::config::{DecayOrder, LinearSchedule};
use methods::optim::params::ParamsBuilder;
use methods::registry::METHODS;
use methods::tuners::adalora::AdaLora;
use methods::tuners::sora::prox;
use methods::{Context, LoraLayers, OptimConfig, TrainState};
use tch::{Device, Kind, Reduction, Tensor};
use torch_ext::ops::dropout::DropoutRng;

/// MiniLM-L6-H384 with random weights and a small vocabulary.
const CONFIG: &str = r#"{"model_type": "bert", "hidden_act": "gelu", "hidden_size": 384, "num_hidden_layers": 6,
    "num_attention_heads": 12, "intermediate_size": 1536, "vocab_size": 1000, "max_position_embeddings": 128,
    "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}"#;
const ROWS: i64 = 8;
const LENGTH: i64 = 32;
/// More than a bench takes.
const STEPS: usize = 1_000_000;

fn protocol() -> OptimConfig {
    let schedule = LinearSchedule { warmup: 0, total: STEPS, ..LinearSchedule::default() };
    OptimConfig {
        lr: 1e-4,
        weight_decay: 0.01,
        decay_order: DecayOrder::Before,
        max_grad_norm: 1.0,
        steps: STEPS,
        schedule,
        gate_schedule: schedule,
    }
}

fn encoder() -> Box<dyn Encoder> {
    let config = Config::parse(CONFIG, Path::new("bench")).expect("the configuration above");
    encoders::random(&config, 1, Device::Cpu, Kind::Float).expect("the configuration above")
}

fn context<'a>(
    encoder: &'a dyn Encoder,
    components: &'a PrincipalComponents,
    protocol: &'a OptimConfig,
) -> Context<'a> {
    let (modules, backbone) = (&encoder.info().target_modules, &encoder.info().weights);
    Context {
        target_modules: modules,
        backbone,
        components,
        protocol,
        hidden_size: encoder.info().hidden_size,
        seed: 1,
    }
}

fn step(encoder: &dyn Encoder, entry: &MethodEntry) -> TrainState {
    let protocol = protocol();
    let mut params = ParamsBuilder::new(Device::Cpu, Kind::Float);
    let components = PrincipalComponents::default();
    let context = context(encoder, &components, &protocol);
    let options = entry.options(&toml::Table::new()).expect("defaults");
    let method = entry.build(&options, &context, &mut params).expect("defaults");
    TrainState::new(params.finish(), method, &protocol)
}

fn inputs() -> TokenBatch {
    let ids = Tensor::randint(999, [ROWS, LENGTH], (Kind::Int64, Device::Cpu));
    TokenBatch {
        attention_mask: ids.ones_like(),
        token_type_ids: ids.zeros_like(),
        input_ids: ids,
        token_capacity: None,
    }
}

fn adapters(c: &mut Criterion) {
    let encoder = encoder();
    for entry in METHODS {
        let step = step(encoder.as_ref(), entry);
        let xs: Vec<Tensor> = encoder
            .info()
            .target_modules
            .iter()
            .map(|module| {
                Tensor::randn([ROWS * LENGTH, module.d_in], (Kind::Float, Device::Cpu)).set_requires_grad(true)
            })
            .collect();
        c.bench_function(&format!("adapters forward and backward, {}", entry.name), |b| {
            b.iter(|| {
                let LoraLayers { modules: adapters, .. } = step.method().adapters(&step.params().views());
                let outputs: Vec<Tensor> =
                    adapters.iter().flatten().zip(&xs).map(|(a, x)| a.branch(x).sum(None::<Kind>)).collect();
                Tensor::stack(&outputs, 0).sum(None::<Kind>).backward();
            });
        });
    }
}

fn whole_step(c: &mut Criterion) {
    let encoder = encoder();
    let head: Vec<Tensor> = encoder.new_head(2, 1).params.into_iter().map(|p| p.init).collect();
    let labels = Tensor::zeros([ROWS], (Kind::Int64, Device::Cpu));
    for entry in METHODS {
        let mut step = step(encoder.as_ref(), entry);
        let inputs = inputs();
        let random = DropoutRng::new(&[1], Device::Cpu);
        c.bench_function(&format!("training step, {}", entry.name), |b| {
            b.iter(|| {
                let views = step.params().views();
                let adapters = step.method().attach_step(&views, step.step());
                let pass = Pass { attach: adapters.as_ref(), dropout: Some(&random) };
                let last = encoder.last_hidden_state(&inputs, pass);
                let logits = encoder.logits(&last, &inputs, &head, pass);
                let loss = logits.cross_entropy_loss::<&Tensor>(&labels, None, Reduction::Mean, -100, 0.0);
                step.apply(&loss, &views).expect("fewer steps than planned")
            });
        });
    }
}

fn threshold(c: &mut Criterion) {
    // DeBERTaV3-base at r = 8: 72 modules.
    let gates = Tensor::randn([576], (Kind::Float, Device::Cpu));
    let tau = Tensor::from(3e-4f32);
    c.bench_function("threshold on 576 gates, released", |b| b.iter(|| prox::released(&gates, &tau)));
    c.bench_function("threshold on 576 gates, soft", |b| b.iter(|| prox::soft(&gates, &tau)));
}

fn allocation(c: &mut Criterion) {
    let encoder = encoder();
    let protocol = protocol();
    let mut params = ParamsBuilder::new(Device::Cpu, Kind::Float);
    let components = PrincipalComponents::default();
    let context = context(encoder.as_ref(), &components, &protocol);
    let method = AdaLora::new(Default::default(), &context, &mut params).expect("defaults");
    let params = params.finish();
    c.bench_function("AdaLoRA allocation, 36 modules of rank 12", |b| {
        b.iter(|| {
            let kept = method.kept_components(&method.scores(&params), method.budget().target);
            method.mask(&params, &kept);
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = adapters, whole_step, threshold, allocation
}
criterion_main!(benches);
